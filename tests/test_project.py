"""The project's files are true: commands in the docs exist, pins match, image and services hold together."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from app.__main__ import parser as app_parser
from segcore.cli import COMMANDS, main
from segcore.data.simulate import simulate

ROOT = Path(__file__).resolve().parents[1]
DOCS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "ARCHITECTURE.md", "benchmarks/README.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *patterns]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def pins(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line]
    return {requirement.name.lower(): requirement for requirement in requirements}


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def pinned_version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", f"{requirement} is not pinned"
    return specifier.version


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pins_and_nothing_else(name):
    for requirement in pins(name).values():
        assert pinned_version(requirement)
        assert requirement.url is None


def test_requirements_are_those_of_pyproject():
    held = pins("requirements.txt")
    for text in PROJECT["project"]["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned_version(held[wanted.name])), text


def test_developers_have_the_same_versions_and_their_tools():
    held, more = pins("requirements.txt"), pins("requirements-dev.txt")
    assert {name: str(pin) for name, pin in held.items()}.items() <= {
        n: str(p) for n, p in more.items()
    }.items()
    extras = PROJECT["project"]["optional-dependencies"].values()
    for text in [*PROJECT["dependency-groups"]["dev"], *(text for extra in extras for text in extra)]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned_version(more[wanted.name])), text


def test_what_is_installed_is_what_is_pinned():
    from importlib.metadata import version

    for name in ("gradio", "huey", "mlflow", "numpy", "pydantic", "tifffile"):
        assert version(name) == pinned_version(pins("requirements.txt")[name])


def test_uv_is_the_same_in_makefile_and_image():
    makefile = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    image = re.search(r"^ARG UV_VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert makefile
    assert image
    assert makefile[1] == image[1]


@pytest.mark.parametrize("name", DOCS)
def test_every_make_target_in_the_docs_exists(name):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    used = set(re.findall(r"(?:`|^|\s)make ([a-z]+)", (ROOT / name).read_text(), re.MULTILINE))
    commands = {word for word in used if f"`make {word}" in (ROOT / name).read_text()} | {
        line.split()[1]
        for block in code_blocks("bash")
        for line in block.splitlines()
        if line.startswith("make ")
    }
    assert commands
    assert commands <= targets


def test_every_make_target_explains_itself():
    text = subprocess.run(
        ["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True
    ).stdout
    for target in ("install", "demo", "test", "check", "bench", "screenshots"):
        assert re.search(rf"make {target}\s+\S", text)


def test_readme_shows_every_command():
    shown = set(re.findall(r"^segcore (\w+)", "\n".join(code_blocks("bash")), re.MULTILINE))
    assert shown == set(COMMANDS)


def test_readme_names_only_options_that_exist(capsys):
    known = set(app_parser()._option_string_actions)
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known |= set(re.findall(r"--[a-z][\w.-]*", "".join(capsys.readouterr())))
    lines = [line for block in code_blocks("bash") for line in block.splitlines()]
    ours = [
        line.partition("#")[0] for line in lines if re.match(r"(segcore|\.venv/bin/python -m app)\b", line)
    ]
    used = {option for line in ours for option in re.findall(r"--[a-z][\w.-]*", line)}
    assert used
    assert used <= known


def test_python_example_of_the_readme_runs(tmp_path, monkeypatch):
    raw, labels = simulate(tmp_path, "2class", 3, 64, 0)
    new, _ = simulate(tmp_path / "other", "2class", 1, 64, 1)
    assert (raw.name, labels.name) == ("raw.tif", "labels.tif")
    new.rename(tmp_path / "new.tif")
    monkeypatch.chdir(tmp_path)
    (example,) = [block for block in code_blocks("python") if "segcore.train(" in block]
    for option, quick in {"patches_per_image": 1, "features": 2, "epochs": 1}.items():
        example, found = re.subn(rf'("{option}"): \d+', rf"\1: {quick}", example)
        assert found == 1
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "result" / "segmentation.tif").exists()


def test_readme_begins_with_the_front_matter_of_a_space():
    _, front, body = README.split("---\n", 2)
    space = yaml.safe_load(front)
    assert (space["sdk"], space["license"]) == ("docker", "apache-2.0")
    assert len(space["short_description"]) <= 60
    assert re.search(rf'"--port", "{space["app_port"]}"', (ROOT / "Dockerfile").read_text())
    assert body.lstrip().startswith("# ")


@pytest.mark.parametrize("name", DOCS)
def test_links_and_pictures_of_the_docs_exist(name):
    path = ROOT / name
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_image_gets_every_file_it_copies():
    ignored = (ROOT / ".dockerignore").read_text().split()
    dockerfile = (ROOT / "Dockerfile").read_text()
    sources = [
        word for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source.split('/')[0]}" in ignored


def test_image_runs_as_a_person_and_looks_after_its_health():
    dockerfile = (ROOT / "Dockerfile").read_text()
    instructions = [line.split()[0] for line in dockerfile.splitlines() if re.match(r"[A-Z]+ ", line)]
    assert instructions.index("USER") < instructions.index("CMD")
    assert "--uid 1000" in dockerfile
    assert "HEALTHCHECK" in instructions


def test_services_wait_for_each_other_and_have_no_secret():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"app", "worker", "mlflow", "postgres"}
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "test" in services[needed]["healthcheck"]
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
    assert services["app"]["volumes"] == services["worker"]["volumes"]
    for name in ("mlflow", "postgres"):
        assert services[name]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    example = (ROOT / "deploy" / "env.example").read_text()
    assert re.search(r"^POSTGRES_PASSWORD=$", example, re.MULTILINE)


def test_every_variable_of_the_services_is_explained():
    files = [ROOT / "compose.yaml", *(ROOT / "deploy").glob("compose.*.yaml")]
    used = {name for file in files for name in re.findall(r"(?<!\$)\$\{(\w+)", file.read_text())}
    explained = set(re.findall(r"^(\w+)=", (ROOT / "deploy" / "env.example").read_text(), re.MULTILINE))
    assert used == explained


def test_no_file_names_a_place_on_somebodys_machine():
    place = re.compile(r"(?<![\w.])/(?:root|work|Users)/\w|/home/(?!segcore\b)\w")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in tracked(
            "*.py", "*.md", "*.toml", "*.txt", "*.ini", "*.yaml", "*.sh", "Makefile", ".ci/run"
        )
        for line in path.read_text(encoding="utf-8").splitlines()
        if path != Path(__file__) and place.search(line)
    ]
    assert not found


def test_the_web_app_starts_without_torch_and_mlflow():
    code = "import sys, app.__main__, app.build; print(sorted({'torch', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
