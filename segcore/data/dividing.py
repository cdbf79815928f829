"""Dividing slices into training, validation and test, step by step from the strongest rule to the weakest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from segcore.config import DataConfig
from segcore.data.choosing import Slice, Unit, assign_folds, choose, cut_block
from segcore.data.extents import Extent, parse_slices
from segcore.data.grouping import group_names, listed, named_images, unmatched_notes
from segcore.errors import ConfigError

SIDES = ("train", "validation", "test")


class Divider:
    """Slices of a data set and the sides they have been given.

    Parameters
    ----------
    extents : sequence of Extent
        The images in the order of the data set.
    data : DataConfig
        Options.

    Raises
    ------
    ConfigError
        The group pattern is no regular expression, or matches no image.
    """

    def __init__(self, extents: Sequence[Extent], data: DataConfig) -> None:
        self.data = data
        self.extents = extents
        self.names = [extent.name for extent in extents]
        self.groups = group_names(self.names, data.group_pattern)
        self.grouped = bool(data.group_pattern) or data.split_by == "groups"
        self.notes: list[str] = unmatched_notes(self.names, data.group_pattern)
        self._gaps: set[Slice] = set()
        """Slices of images that have been cut into blocks; those without a side are left out between two."""
        self.sides: dict[Slice, str] = {}
        """Side of every annotated slice, "" as long as it has none."""
        for item, extent in enumerate(extents):
            for plane in range(extent.planes):
                if extent.annotated(plane):
                    self.sides[item, plane] = "" if extent.use == "split" else extent.use
        empty = sum(extent.planes for extent in extents) - len(self.sides)
        if empty:
            self.notes.append(f"{empty} slices without annotation are in no part.")

    def only_slice(self) -> Slice | None:
        """Return the annotated slice where there is only one, and its set has no use of its own."""
        return next(iter(self.sides)) if list(self.sides.values()) == [""] else None

    def divide(self) -> dict[Slice, str]:
        """Return the side of every annotated slice, "" where it is left out between two sides.

        Raises
        ------
        ConfigError
            See `splits.split_images`.
        """
        if not self.sides:
            raise ConfigError("No slice is annotated, so nothing can train.", "Annotate at least one slice.")
        self._give_named_slices()
        self._keep_groups_whole()
        self._give_named_groups()
        self._give_shares()
        self._refuse_empty()
        return self.sides

    # --- what is named ---------------------------------------------------------------------------------

    def _give_named_slices(self) -> None:
        ends = list(accumulate(extent.planes for extent in self.extents))
        places = [(item, plane) for item, extent in enumerate(self.extents) for plane in range(extent.planes)]
        named: dict[int, str] = {}
        for side, text in (("test", self.data.test_slices), ("validation", self.data.validation_slices)):
            if not text:
                continue
            option = f"data.{side}_slices {text!r}"
            chosen = parse_slices(text)
            beyond = [str(index) for index in chosen if index >= ends[-1]]
            if beyond:
                raise ConfigError(
                    f"{option} names {listed(beyond)}, but there are the slices 0 to {ends[-1] - 1}.",
                    "Slices are counted from 0, through all images.",
                )
            both = [str(index) for index in chosen if index in named]
            if both:
                raise ConfigError(
                    f"{option} names {listed(both)}, which data.test_slices names too.",
                    "A slice can only be in one of them.",
                )
            named.update(dict.fromkeys(chosen, side))
            self._note_not_given(chosen, places, side)
        for index, side in named.items():
            if self.sides.get(places[index]) == "":
                self.sides[places[index]] = side

    def _note_not_given(self, chosen: Sequence[int], places: Sequence[Slice], side: str) -> None:
        bare = [str(index) for index in chosen if places[index] not in self.sides]
        fixed = [str(index) for index in chosen if self.sides.get(places[index], side) not in ("", side)]
        if bare:
            self.notes.append(f"data.{side}_slices names slices without annotation: {listed(bare)}.")
        if fixed:
            self.notes.append(
                f"data.{side}_slices names slices of sets that are for something else: {listed(fixed)}."
            )

    def _give_named_groups(self) -> None:
        for side, patterns in (("test", self.data.test_groups), ("validation", self.data.validation_groups)):
            option = f"data.{side}_groups"
            items = named_images(self.names, self.groups, patterns, option) if patterns else set()
            for item in sorted(items):
                if self.extents[item].use not in ("split", side):
                    continue
                there = {self.sides[place] for place in self._slices_of(item)}
                if side == "validation" and there == {"test"} and not self.data.test_slices:
                    raise ConfigError(
                        f"{option} and data.test_groups both name {self.names[item]}.",
                        "An image can only be in one of them.",
                    )
                self._give((place for place in self._slices_of(item) if not self.sides[place]), side)
        self._keep_groups_whole()

    def _keep_groups_whole(self) -> None:
        """Give a group that has a side already to this side as a whole; refuse one that has two."""
        if not self.data.group_pattern:
            return
        there: dict[str, dict[str, int]] = defaultdict(dict)
        forced: dict[str, str] = {}
        for (item, _), side in self.sides.items():
            there[self.groups[item]].setdefault(side, item)
        for group, owners in there.items():
            given = {side: item for side, item in owners.items() if side}
            named_slices = any(self.extents[item].use == "split" for item in given.values())
            if len(given) > 1 or (given and "" in owners and named_slices):
                raise ConfigError(
                    f"Group {group!r} (data.group_pattern {self.data.group_pattern!r}) would be divided: "
                    f"{' and '.join(sorted(side or 'the rest' for side in owners))} both have slices of it, "
                    f"among them {listed([self.names[item] for item in owners.values()])}.",
                    "Name all slices of the group or none, or catch more of the path in the pattern.",
                )
            if given and "" in owners:
                forced[group] = next(iter(given))
        if forced:
            self.notes.append(f"Groups that go where a set has put a part of them: {listed(list(forced))}.")
        for place, side in self.sides.items():
            if not side and self.groups[place[0]] in forced:
                self.sides[place] = forced[self.groups[place[0]]]

    # --- what is left ----------------------------------------------------------------------------------

    def _give_shares(self) -> None:
        data = self.data
        left = [place for place, side in self.sides.items() if not side]
        taken = set(self.sides.values())
        shares: dict[str, float] = {}
        if data.test_fraction and not (data.test_slices or data.test_groups):
            shares["test"] = data.test_fraction
        named = bool(data.validation_slices or data.validation_groups)
        if "validation" in taken and not named and not data.folds:
            self.notes.append("A set is for validation, so no share of the others is.")
        elif not named and not data.folds:
            shares["validation"] = data.validation_fraction
        if named and data.folds:
            self.notes.append("What is named for validation validates, so data.folds says nothing.")
        if sum(shares.values()) >= 1:
            raise ConfigError(
                f"data.validation_fraction {data.validation_fraction} and data.test_fraction "
                f"{data.test_fraction} leave nothing to train on.",
                "Their sum must stay below 1.",
            )
        if left and shares and self._in_blocks():
            self._give_blocks(left, shares)
        elif left and shares:
            self._give_units(left, shares)
        if data.folds and not named:
            self._give_fold([place for place, side in self.sides.items() if not side])
        rest = (place for place, side in self.sides.items() if not side and place not in self._gaps)
        self._give(rest, "train")

    def _in_blocks(self) -> bool:
        volumes = self.data.mode == "3d" and self.data.split_by == "even"
        return not self.grouped and not self.data.folds and (self.data.split_by == "blocks" or volumes)

    def _give_units(self, left: Sequence[Slice], shares: dict[str, float]) -> None:
        units = self._units(left)
        need = len(shares) + ("train" not in self.sides.values())
        if len(units) < need:
            kind = "groups" if self.grouped else "slices"
            raise ConfigError(
                f"{' and '.join(f'data.{side}_fraction' for side in shares)} cannot be taken: {need} "
                f"{kind} are needed, there are only {len(units)}: {listed([unit.name for unit in units])}.",
                "Use more images, or a finer data.group_pattern." if self.grouped else "Use more slices.",
            )
        for side, share in shares.items():
            need -= 1
            chosen = choose(units, round(share * len(left)), self.data.split_by, need)
            self._give((place for number in chosen for place in units[number].slices), side)
            units = [unit for number, unit in enumerate(units) if number not in chosen]
        if self.grouped:
            self._note_groups()

    def _give_fold(self, left: Sequence[Slice]) -> None:
        folds = self.data.folds
        units = self._units(left, by_image=True)
        if len(units) < folds and not self.grouped:
            units = self._units(left)
            self.notes.append(
                "There are fewer images than folds, so slices of the same image are in several."
            )
        if len(units) < folds:
            kind = "groups" if self.grouped else "slices"
            raise ConfigError(
                f"data.folds is {folds}, but there are only {len(units)} {kind} to divide: "
                f"{listed([unit.name for unit in units])}.",
                f"Use at most {len(units)} folds.",
            )
        method = "blocks" if self.data.mode == "3d" and self.data.split_by == "even" else self.data.split_by
        numbers = assign_folds(units, folds, method)
        for unit, number in zip(units, numbers, strict=True):
            self._give(unit.slices, "validation" if number == self.data.fold else "train")
        self.notes.append(f"Fold {self.data.fold} of {folds} validates (folds are counted from 0).")

    def _give_blocks(self, left: Sequence[Slice], shares: dict[str, float]) -> None:
        order = [side for side in ("validation", "test") if side in shares]
        sequences = self._sequences(left)
        depth = self.data.patch_depth if self.data.mode == "3d" else 1
        gap = int(self.data.mode != "2d")
        tries = [(gap, (2 * depth, depth)), (gap, (depth, depth // 2 or 1)), (0, (depth, depth // 2 or 1))]
        if len(sequences) <= len(shares):  # otherwise rather whole volumes than blocks thinner than that
            tries += [(0, (depth, 1)), (0, (1, 1))]
        for gap_here, least in tries:
            if self._cut(sequences, {side: shares[side] for side in order}, gap_here, least):
                self._note_blocks(order, gap_here if any(len(steps[0]) == 1 for steps in sequences) else 0)
                return
        self._give_units(left, shares)

    def _cut(
        self,
        sequences: Sequence[list[list[Slice]]],
        shares: dict[str, float],
        gap: int,
        least: tuple[int, int],
    ) -> bool:
        """Give a block of every sequence that is long enough to every side; say whether there was any."""
        cut = False
        for steps in sequences:
            whole = len(steps[0]) > 1  # volumes in time need no depth, and are too dear to leave one out
            sizes = [max(1, round(share * len(steps))) for share in shares.values()]
            ranges = cut_block(len(steps), sizes, 0 if whole else gap, (1, 1) if whole else least)
            if ranges is None:
                continue
            cut = True
            self._gaps.update(place for step in steps for place in step)
            for side, numbers in zip(["train", *shares], ranges, strict=True):
                self._give((place for number in numbers for place in steps[number]), side)
        return cut

    def _note_blocks(self, order: Sequence[str], gap: int) -> None:
        said = f"Contiguous blocks, not single slices, are for {' and '.join(['training', *order])}"
        if gap:
            said += "; a slice between two of them is left out"
        if self.data.split_by == "even":
            said += " (3d: patches need slices that lie together)"
        self.notes.append(f"{said}.")

    # --- units -----------------------------------------------------------------------------------------

    def _sequences(self, left: Sequence[Slice]) -> list[list[list[Slice]]]:
        """Return what blocks are cut from: the slices of every volume, or the volumes of every time lapse."""
        volumes: dict[int, dict[int, list[Slice]]] = defaultdict(lambda: defaultdict(list))
        for item, plane in left:
            volumes[item][self.extents[item].volume(plane)].append((item, plane))
        if all(len(steps) == 1 and len(steps.popitem()[1]) == 1 for steps in map(dict, volumes.values())):
            return [[[place] for place in left]]  # images of one slice are one sequence
        return [
            list(steps.values()) if len(steps) > 1 else [[place] for place in steps.popitem()[1]]
            for steps in map(dict, volumes.values())
        ]

    def _units(self, left: Iterable[Slice], by_image: bool = False) -> list[Unit]:
        """Return what stays together: groups, images, or slices (in 3d, blocks as deep as a patch)."""
        members: dict[tuple[str, int], list[Slice]] = defaultdict(list)
        deep = self.data.patch_depth if self.data.mode == "3d" else 1
        for item, plane in left:
            if self.grouped:
                key = (self.groups[item], 0)
            else:
                key = (self.names[item], 0 if by_image else self._block_of(item, plane, deep))
            members[key].append((item, plane))
        return [
            Unit(
                name if self.grouped or by_image else f"{name}[{part}]",
                tuple(places),
                frozenset().union(*(self._classes_of(place) for place in places)),
            )
            for (name, part), places in members.items()
        ]

    def _block_of(self, item: int, plane: int, deep: int) -> int:
        """Return the number of the block; the last of a volume is the deepest, so that none is shallow."""
        extent = self.extents[item]
        depth = extent.depth or extent.planes
        blocks = max(1, depth // deep)
        return extent.volume(plane) * blocks + min(plane % depth // deep, blocks - 1)

    def _classes_of(self, place: Slice) -> frozenset[int]:
        classes = self.extents[place[0]].classes
        return classes[place[1]] if classes else frozenset()

    def _slices_of(self, item: int) -> list[Slice]:
        planes = range(self.extents[item].planes)
        return [(item, plane) for plane in planes if (item, plane) in self.sides]

    # --- sides -----------------------------------------------------------------------------------------

    def _give(self, places: Iterable[Slice], side: str) -> None:
        for place in list(places):
            self.sides[place] = side

    def _note_groups(self) -> None:
        for side in ("validation", "test"):
            groups = [self.groups[item] for (item, _), owner in self.sides.items() if owner == side]
            if groups:
                self.notes.append(f"Groups for {side}: {listed(groups)}.")

    def _refuse_empty(self) -> None:
        found = set(self.sides.values())
        if "train" not in found:
            raise ConfigError(
                f"The options of the split leave nothing to train on; annotated slices: {len(self.sides)}.",
                "Name fewer slices or groups for validation and test, or leave these options out"
                + (": the rows of a single slice are divided." if len(self.sides) == 1 else "."),
            )
        if "validation" not in found:
            raise ConfigError(
                "The options of the split leave nothing for validation.",
                "Name fewer slices or groups for the test, or other ones for validation.",
            )
