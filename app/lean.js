// Runs before Gradio's own scripts, and spares them work that nobody sees. Without it the page works as well, only slower:
// where Gradio has changed one day, nothing is done.

// The clock of every progress display asks for the next frame sixty times a second, for ever if the display goes away while it
// runs, as the one of the opening page does. It shows tenths of a second: ten times are enough, and need no frame.
const frame = window.requestAnimationFrame.bind(window);
const isClock = (text) => text.length < 120 && text.includes("performance.now()") && text.includes("/1e3");
window.requestAnimationFrame = (callback) => (isClock(String(callback)) ? setTimeout(callback, 100) : frame(callback));

// How far an event has got is told to every component that it reads or writes, several times, and from then on again with every
// other event of the page; each time the whole page is walked through and what the component holds is copied. What shows no
// progress need not be told, and what has been told need not be told again.
function lean(LoadingStatus) {
  const update = LoadingStatus.prototype.update;
  LoadingStatus.prototype.update = function (event) {
    for (const [id, told] of Object.entries(this.current)) {
      if (told.status === "complete" || told.status === "error") delete this.current[id];
      else if (told.show_progress === "hidden") told.status = "complete"; // begun before this was in place
    }
    if (this.show_progress[event.fn_index] !== "hidden") update.call(this, event);
  };
  document.documentElement.dataset.lean = "true";
}

const loaded = new PerformanceObserver(async (list) => {
  const address = list.getEntries().map((entry) => entry.name).find((name) => name.includes("/assets/statustracker-") && name.endsWith(".js"));
  if (!address) return;
  loaded.disconnect();
  const parts = Object.values(await import(address)).map((part) => part?.LoadingStatus);
  parts.filter((part) => part?.prototype?.update).slice(0, 1).forEach(lean);
});
loaded.observe({ type: "resource", buffered: true });
