"""What a recipe says about its sources: where the data lies, which columns hold what, and how far reading may go."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from ...config import Config

_MIB = 1 << 20
_GIB = 1 << 30


class Columns(Config):
    """The names of columns, or of a JSON object's keys, where they are not the usual ones."""

    text: str | None = None
    """The document."""
    messages: str | None = None
    """The conversation: a list of messages, or that list as JSON."""
    prompt: str | None = None
    """The question; 'response' must be named too."""
    response: str | None = None
    """The answer; 'prompt' must be named too."""
    input: str | None = None
    """What stands below the question."""
    system: str | None = None
    """The instruction that stands before the question."""
    conversation: str | None = None
    """For tables with a message a row: the conversation's id. Rows of one id stand together, in the order of time."""
    role: str | None = None
    """For tables with a message a row: who wrote it."""
    content: str | None = None
    """For tables with a message a row: the message."""
    roles: dict[str, str] = Field(default_factory=dict)
    """What the values of 'role' mean, for example {visitor: user, staff: assistant}; the usual words are known."""
    group: str | None = None
    """Records with the same value stay on the same side of every split, for example a customer's id."""
    id: str | None = None
    """The record's own id, carried along."""
    metadata: tuple[str, ...] = ()
    """Columns to carry along."""

    @model_validator(mode="after")
    def _whole(self) -> Columns:
        if (self.prompt is None) != (self.response is None):
            raise ValueError("'prompt' and 'response' go together")
        folded = [self.conversation, self.role, self.content]
        if any(folded) and not all(folded):
            raise ValueError("'conversation', 'role' and 'content' go together")
        shapes = [name for name in ("text", "messages", "prompt", "conversation") if getattr(self, name)]
        if len(shapes) > 1:
            raise ValueError(f"'{shapes[0]}' and '{shapes[1]}' cannot both be the record's content")
        unknown = sorted(set(self.roles.values()) - {"system", "user", "assistant", "tool"})
        if unknown:
            raise ValueError(f"'{unknown[0]}' is no role; the roles are system, user, assistant and tool")
        return self

    def named(self) -> set[str]:
        """Every column that is named here."""
        single = (getattr(self, name) for name in type(self).model_fields if name not in ("roles", "metadata"))
        return {name for name in single if name} | set(self.metadata)


class SourceOptions(Config):
    """One source of a recipe: files, a query or a data set of the hub."""

    name: str = Field(pattern=r"^\w[\w .+-]*$")
    """What the source is called in reports; each source of a recipe has its own name."""
    path: str | tuple[str, ...] | None = None
    """A file, a folder (read at every depth), a pattern such as 'mail/**/*.txt', or a list of these."""
    sql: SecretStr | None = None
    """A database's URL, 'sqlite:///shop.db' or 'postgresql://user@host/name'; '$NAME' takes it from the environment."""
    query: str | None = None
    """The SELECT whose rows are the records."""
    dataset: str | None = None
    """A data set of the hub, 'org/name'."""
    subset: str | None = None
    """The part of a data set, where it has several (the hub calls it a configuration)."""
    split: str | None = None
    """The split of a data set to read; none reads them all."""
    revision: str | None = None
    """The branch, tag or commit of a data set."""
    include: tuple[str, ...] = ()
    """Read only files whose name matches one of these patterns."""
    exclude: tuple[str, ...] = ()
    """Leave out files whose name matches one of these patterns."""
    columns: Columns = Columns()
    """Which columns hold what, where they are not called as usual."""
    weight: float = Field(default=1.0, gt=0)
    """How often this source is drawn in the mix, in proportion to its size."""
    epochs: float | None = Field(default=None, gt=0)
    """The most often that each of its documents may be seen in one pass over the mix."""

    @model_validator(mode="after")
    def _one_place(self) -> SourceOptions:
        given = [name for name in ("path", "sql", "dataset") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them is given"
            raise ValueError(f"a source needs exactly one of path, sql and dataset: {found}")
        if bool(self.sql) != bool(self.query):
            raise ValueError("'sql' and 'query' go together")
        if self.sql and (self.subset or self.split):
            raise ValueError("'subset' and 'split' are for data sets, a query chooses its rows itself")
        if self.revision and not self.dataset:
            raise ValueError("'revision' is for data sets of the hub")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths as a list; none for a query or a data set that has not been fetched."""
        if self.path is None:
            return ()
        return (self.path,) if isinstance(self.path, str) else self.path


class ReadLimits(Config):
    """How far reading goes before a file counts as an attack or a mistake."""

    max_document_bytes: int = Field(default=64 * _MIB, gt=0)
    """The largest document; a larger one is left out and named."""
    max_archive_bytes: int = Field(default=16 * _GIB, gt=0)
    """The most bytes that one archive may expand to, with the archives in it."""
    max_ratio: float = Field(default=200.0, gt=1)
    """The most bytes that one compressed byte may expand to; all that lies in one file, archives in archives included,
    may together go 16 MiB beyond."""
    max_members: int = Field(default=250_000, gt=0)
    """The most files in one archive."""
    max_depth: int = Field(default=3, gt=0)
    """How deep archives may lie in archives."""
    seconds: float = Field(default=30.0, gt=0)
    """The longest that turning one document into text may take."""
