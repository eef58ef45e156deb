"""From a folder of images to an adapter of one's own domain, or to the advice to keep the default model."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..constants import VIDEO_ADAPTER
from ..data import Sample
from ..errors import RunError
from ..inference.tiled import AUTO, AUTO_LEAST, Tiles
from ..loading import load
from ..quality.measure import SURE, FolderQuality, choose, compare_scores, find_harm
from ..training.locks import lock_folder
from .arguments import MEASURE, AdaptArguments, find_samples, split, with_flow
from .candidates import (
    AGAIN,
    BY_CUES,
    CUES,
    DEFAULT,
    Candidate,
    Source,
    again_name,
    agreeing,
    embedded,
    judge,
    judge_labels,
    judge_parts,
    label_refinement,
    make_labels,
    train_adapter,
    training_steps,
    transfer_cues,
)
from .folder import AdaptFolder
from .inspection import FEWEST_LABELS, Inspection, inspect
from .progress import plan_steps, read_progress
from .review import settle_reviews, write_reviewed

LEAST_TILED = 2 * AUTO_LEAST  # pixels of the median image's longer side, above which windows may show more
FEWEST_CONFIRMED = 20  # labels that others confirm; with fewer, those that nothing confirms are learned from too
LEAST_OBJECT, MOST_OBJECT = 0.002, 0.9  # share of an image; a label of less or more says nothing
MOST_AGAIN = 2  # rounds in which the best that was trained here makes labels in its turn

Result = TypeVar("Result")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Adapted:
    """What came of an adaptation.

    Args:
        inspection: of the images.
        held_out: the images that candidates were compared on.
        candidates: all, in the order in which they were tried.
        qualities: of each, by name.
        chosen: the name of one.
        reason: why.
        tiles: whether it is to look at windows too, see `Tiled`.
        notes: what else was found out, such as labels that were not used.
        maps: where each candidate's maps of the held-out images are.
        seconds: by step.
    """

    inspection: Inspection
    held_out: Sequence[Sample]
    candidates: Sequence[Candidate]
    qualities: dict[str, FolderQuality]
    chosen: str
    reason: str
    notes: list[str]
    maps: Path
    seconds: dict[str, float]
    tiles: Tiles = None

    @property
    def harms(self) -> dict[str, str]:
        """Why candidates are not to be used, of those that are not."""
        found = {name: find_harm(quality, self.qualities[DEFAULT]) for name, quality in self.qualities.items()}
        return {name: harm for name, harm in found.items() if harm}

    @property
    def keeps_default(self) -> bool:
        return self.chosen == DEFAULT


def adapt(args: AdaptArguments, tell: Tell = print) -> Adapted:
    """Tries what there is to try on a folder of images and chooses by a measure that needs no masks.

    Every step is kept in the output folder; a stopped run goes on with `resume`.

    Raises:
        UsodError, FileNotFoundError, ModuleNotFoundError: with what to do about it.
        KeyboardInterrupt: when asked to stop.
    """
    with _begun(args, tell) as adaptation:
        return adaptation.run()


def look(args: AdaptArguments, tell: Tell = print) -> None:
    """The beginning of `adapt`: looks at the images, makes the default model's maps of those that are held out, and
    says how long the rest will take."""
    with _begun(args, tell) as adaptation:
        adaptation.look()


@contextmanager
def _begun(args: AdaptArguments, tell: Tell) -> "Iterator[_Adaptation]":
    samples = find_samples(args)
    # What can be refused is refused before anything is written
    AdaptFolder(args.output, args.asked, args.resume)
    inspection = inspect(samples, args.video)
    for line in inspection.lines():
        tell(line)
    inspection.check()
    first, *_ = embedded(args.has_maps)
    load(first.model, device=args.device)
    with lock_folder(args.output):
        yield _Adaptation(args, AdaptFolder(args.output, args.asked, args.resume), tell, inspection)


@dataclass
class _Adaptation:
    args: AdaptArguments
    folder: AdaptFolder
    tell: Tell
    inspection: Inspection
    candidates: list[Candidate] = field(default_factory=list)
    qualities: dict[str, FolderQuality] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    held_out: Sequence[Sample] = ()
    training: Sequence[Sample] = ()

    def look(self) -> None:
        self._place()
        first, *_ = embedded(self.args.has_maps)
        self._judge(first)
        self.tell(f"The rest will take {read_progress(self.folder.root, self.folder.state).told()}.")

    def run(self) -> Adapted:
        self._place()
        for candidate in embedded(self.args.has_maps):
            self._judge(candidate)
        images, aux = self.folder.images("train"), self._aux(self.training)
        cues = self._step("cues", lambda: transfer_cues(images, aux, self.folder.root / CUES, self.args.seed))
        self._judge(cues)
        makers = self._sources(cues)
        self._plan([*(source.name for source in makers), AGAIN])
        for source in makers:
            self._train_by(source)
        while again := self._again(makers):
            self._plan([*self.planned, again.name])
            makers.append(again)
            self._train_by(again)
        if all(source.name != AGAIN for source in makers):
            self._unplan(AGAIN)
        for source in self._reviewed(makers):
            self._train_by(source)
        return self._choose()

    def _train_by(self, source: Source) -> None:
        """Trains an adapter by a source's labels, if they are good for it, and judges it."""
        labels = self.folder.labels(source.name)
        made = self._step(f"labels {source.name}", partial(self._label, source, labels))
        if (found := self._usable(source, made, labels)) is None:
            self._unplan(source.name)
            return
        samples, used = found
        self.folder.place(samples, source.name)
        images, aux = self.folder.images(source.name), self._aux(samples, source.name)
        run = self.folder.root / "runs" / source.name
        work = partial(train_adapter, source, used, images, aux, labels, run, self.args.seed)
        self._judge(self._step(f"training {source.name}", work))

    def _place(self) -> None:
        """Parts the images, and keeps what is known of them and what is to be done."""
        samples = self.inspection.samples
        self.folder.state["images"] = {"used": len(samples), "lines": self.inspection.lines()}
        self.reviews = settle_reviews(self.folder.root, self.folder.state)
        self._plan(self.folder.state.get("sources", ["trained-by-the-best", BY_CUES, AGAIN]))
        if self.args.video:
            flow = self.folder.root / "flow"
            samples = self._step("flow", partial(with_flow, self.args.images, flow, samples, self.inspection.readable))
        held_out, training = split(samples)
        self.held_out = self.folder.place(held_out, "held_out")
        self.training = self.folder.place(training, "train")

    @property
    def planned(self) -> list[str]:
        """The sources whose labels are to be trained on, by name, but for reviews."""
        return self.folder.state["sources"]

    def _plan(self, sources: Sequence[str]) -> None:
        reviews = [name for name, _ in self.reviews]
        sources = [name for name in dict.fromkeys(sources) if name not in reviews]
        held_out, training = split(self.inspection.samples)
        steps = plan_steps(
            len(self.inspection.samples) if self.args.video else 0,
            len(held_out),
            len(training),
            [candidate.name for candidate in embedded(self.args.has_maps)],
            [*sources, *reviews],
            training_steps,
        )
        self.folder.state |= {"plan": steps, "sources": sources}
        self.folder.save()

    def _unplan(self, source: str) -> None:
        self._plan([name for name in self.planned if name != source])

    def _step(self, name: str, work: Callable[[], Result]) -> Result:
        """Does a step and keeps what it took, apart where it does not come to its end; one that was done before is only
        looked up by its files."""
        state = self.folder.state
        done, unfinished = state["seconds"], state.setdefault("unfinished", {})
        before = unfinished.get(name, done.get(name, 0.0))
        state["running"] = name
        self.folder.save()
        if name not in done:
            self.tell(f"{name} ({read_progress(self.folder.root, state).told()}) …")
        begun, kept = time.monotonic(), unfinished
        try:
            result = work()
            unfinished.pop(name, None)
            kept, state["running"] = done, None
            return result
        finally:
            kept[name] = round(before + time.monotonic() - begun, 1)
            self.folder.save()

    def _judge(self, candidate: Candidate) -> None:
        quality = self._step(
            f"maps {candidate.name}",
            lambda: judge(candidate, self.held_out, self.folder.root, self.args.device, self.args.batch_size),
        )
        self.candidates.append(candidate)
        self.qualities[candidate.name] = quality
        harm = self._harm(candidate.name)
        self.folder.state.setdefault("quality", {})[candidate.name] = quality.figures()
        self.folder.state.setdefault("candidates", {})[candidate.name] = {
            "about": candidate.about,
            "adapter": candidate.adapter,
            "is_detector": candidate.is_detector,
            "harm": harm,
        }
        self.folder.save()
        self.tell(f"  {candidate.name}: quality {quality.score:.3f}{f', not to be used: {harm}' if harm else ''}")

    def _harm(self, name: str) -> str:
        return find_harm(self.qualities[name], self.qualities[DEFAULT])

    def _sources(self, cues: Candidate) -> list[Source]:
        """What makes labels: of the detectors the best, and the cue extractor, unless its maps are no good."""
        best = self._candidate(self._best()[0])
        # An adapter's labels are kept as they are
        by_best = Source(f"trained-by-{best.name}", best, "none" if best.adapter else "pixel", best)
        if harm := self._harm(cues.name):
            self.notes.append(f"Labels of the cue extractor were not used: {harm}.")
            return [by_best]
        by_cues = Source(BY_CUES, cues, label_refinement(), best, confirmed_by=by_best.name)
        return [by_best, by_cues]

    def _again(self, makers: Sequence[Source]) -> Source | None:
        """What was trained here makes labels in its turn if it is the best so far: the newest, and not too often."""
        name, _ = self._best()
        parent = next((source for source in makers if source.name == name), None)
        rounds = sum(source.name.startswith(AGAIN) for source in makers)
        if parent is None or rounds == MOST_AGAIN or (rounds and parent is not makers[-1]):
            return None
        candidate = self._candidate(name)
        confirmed_by = parent.confirmed_by if parent.candidate.is_detector else parent.name
        return Source(again_name(rounds), candidate, "none", candidate, confirmed_by=confirmed_by)

    def _reviewed(self, makers: Sequence[Source]) -> list[Source]:
        """Labels as people reviewed them."""
        by_name = {source.name: source for source in makers}
        if unknown := {review.labels for _, review in self.reviews} - by_name.keys():
            raise RunError(
                f"{self.folder.root / 'review.json'}: there are no labels {min(unknown)}; there are: "
                f"{', '.join(by_name)}."
            )
        return [
            replace(by_name[review.labels], name=name, review=review, confirmed_by=None)
            for name, review in self.reviews
        ]

    def _label(self, source: Source, labels: Path) -> Sequence[Sample]:
        """Has labels made; returns the images that have one."""
        if source.review:
            return write_reviewed(source.review, self.training, self.folder.labels(source.review.labels), labels)
        make_labels(source, self.training, labels, self.args.device, self.args.batch_size)
        return self.training

    def _usable(self, source: Source, training: Sequence[Sample], labels: Path) -> tuple[list[Sample], str] | None:
        """The images whose labels hold an object and a ground, or those of them whose labels others confirm, and which
        these are in words; None if most labels say nothing, or too few are left."""
        shares = judge_labels(training, labels)
        used = [sample for sample in training if LEAST_OBJECT <= shares[sample.id] <= MOST_OBJECT]
        if source.confirmed_by:
            confirmed = agreeing(used, labels, self.folder.labels(source.confirmed_by))
            told = f"{source.name}: labels of {source.confirmed_by} confirm {len(confirmed)} of {len(training)}"
            if len(confirmed) >= FEWEST_CONFIRMED:
                self.notes.append(f"{told}; the others were left out.")
                return confirmed, f"where those of {source.confirmed_by} agree"
            self.notes.append(f"{told}, too few to learn from these alone.")
        dropped = len(training) - len(used)
        too_few = len(used) < FEWEST_LABELS
        if dropped > len(training) / 2 or too_few:
            needed = f"; at least {FEWEST_LABELS} others are needed" if too_few else ""
            self.notes.append(
                f"{source.name}: not trained, {dropped} of {len(training)} labels are empty or all object{needed}."
            )
            return None
        if dropped:
            self.notes.append(
                f"{source.name}: {dropped} of {len(training)} labels, empty or all object, were left out."
            )
        return used, "as you reviewed them" if source.review else "as they are"

    def _aux(self, samples: Sequence[Sample], name: str = "train") -> Path | None:
        return self.folder.aux(name) if any(sample.aux for sample in samples) else None

    def _candidate(self, name: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.name == name)

    def _detectors(self) -> dict[str, FolderQuality]:
        return {c.name: self.qualities[c.name] for c in self.candidates if c.is_detector}

    def _best(self) -> tuple[str, str]:
        """The name of the best detector that does no harm, and why. What comes with the package has to beat the default
        model or, as a person said that these are frames, the package's adapter for video: where the measure is in
        doubt, that is the better guess. What was trained here has to beat the best of these, whose labels it learned.
        """
        detectors = {name: quality for name, quality in self._detectors().items() if not self._harm(name)}
        known = {candidate.name for candidate in embedded(self.args.has_maps)}
        package = {name: quality for name, quality in detectors.items() if name in known}
        best, reason = choose(package, VIDEO_ADAPTER if self.args.video and VIDEO_ADAPTER in package else DEFAULT)
        trained = {name: quality for name, quality in detectors.items() if name not in known}
        chosen, why = choose({best: package[best], **trained}, best)
        return (best, reason) if chosen == best != DEFAULT else (chosen, why)

    def _choose(self) -> Adapted:
        """Keeps the candidate that a person said, or else the measure says."""
        state = self.folder.state
        detectors = self._detectors()
        choice = self.args.choose or state.get("choice") or MEASURE
        if choice not in (MEASURE, *detectors):
            raise RunError(f"--choose {choice}: there is no such candidate; there are: {', '.join(detectors)}.")
        name, reason = self._best() if choice == MEASURE else (choice, "chosen by hand")
        chosen = self._candidate(name)
        self.folder.keep_adapter(name, chosen.adapter)
        tiles = self._try_tiles(chosen)
        state |= {"choice": None if choice == MEASURE else name, "chosen": name, "reason": reason}
        state |= {"tiles": tiles, "notes": self.notes}
        self.folder.save()
        return Adapted(
            inspection=self.inspection,
            held_out=self.held_out,
            candidates=self.candidates,
            qualities=self.qualities,
            chosen=name,
            reason=reason,
            notes=self.notes,
            maps=self.folder.root / "maps",
            seconds=state["seconds"],
            tiles=tiles,
        )

    def _try_tiles(self, chosen: Candidate) -> Tiles:
        """Whether the chosen one is to look at windows too: of images that are large enough, if the outlines of its
        maps, as windows show them, fit better for it beyond doubt."""
        _, median, _ = self.inspection.sides
        if median <= LEAST_TILED:
            return None
        tiled = replace(
            chosen,
            name=f"{chosen.name}-tiles",
            about=f"{chosen.name} with --tiles {AUTO}",
            is_detector=False,  # the same model, and no choice of its own
            tiles=AUTO,
        )
        self._judge(tiled)
        scores = (judge_parts(self.held_out, self.folder.root / "maps" / one.name) for one in (tiled, chosen))
        gain, error = compare_scores(*scores)
        better = gain > SURE * error and not self._harm(tiled.name)
        self.notes.append(
            f"--tiles {AUTO} is {'to be used' if better else 'not used'}: what windows show fits better by {gain:.3f} "
            f"(standard error {error:.3f})."
        )
        return AUTO if better else None
