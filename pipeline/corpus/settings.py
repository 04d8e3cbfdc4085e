"""Settings of the corpus pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CorpusSettings:
    """How labels are fitted to the whole corpus.

    Attributes:
        rounds: passes over the corpus, while the text embeddings' say fades from all to none
        steps_per_round: the classifier moves at least this often in a round, also where there are few shards
        shards_per_step: shards whose statistics are summed before the classifier moves; also how many can be worked on at a time
        damping: how likely a concept that the image's captions do not name is, against one that they name; 0: impossible
        coverage: regions that should explain each named concept; 0: none has to
        learning_rate: of Adam; a weight vector moves by about this share of its length in a step
        background: whether there is a background class
        objectness_prior: whether objectness decides how likely background is before the region is looked at
        text_prior: whether the text embeddings have a say that fades over the rounds; otherwise they are only the start
        seed: of the order of the shards
    """  # noqa: E501 - one line a key: it becomes --help

    rounds: int = 12
    steps_per_round: int = 4
    shards_per_step: int = 8
    damping: float = 0.1
    coverage: float = 2.0
    learning_rate: float = 0.065
    background: bool = True
    objectness_prior: bool = True
    text_prior: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "steps_per_round", "shards_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"corpus.{name}: must be at least 1, is {getattr(self, name)}")
        if not 0 <= self.damping <= 1:
            raise ValueError(f"corpus.damping: must be in [0, 1], is {self.damping}")
        if self.coverage < 0:
            raise ValueError(f"corpus.coverage: must be at least 0, is {self.coverage}")
        if self.learning_rate <= 0:
            raise ValueError(f"corpus.learning_rate: must be above 0, is {self.learning_rate}")
