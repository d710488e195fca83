"""Which columns a run needs, and whether header, ``*_FIELD`` settings and ``load_col`` agree.

RecBole reads a column only if all three do; otherwise a run dies much later, in a sort or a lookup
that names none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_fofa.data.header import TYPES, Header, quoted_list

Settings = Mapping[str, Any]

_USER_WORDS = ("user", "session", "uid", "customer", "visitor", "member", "reviewer", "account")
_ITEM_WORDS = ("item", "product", "iid", "asin", "sku", "movie", "article", "song", "track", "book")
_TIME_WORDS = ("time", "date", "created")


@dataclass(frozen=True)
class Role:
    """A column that a run needs.

    Args:
        key: The setting that names it; empty for a name that is derived from another.
        name: The column's name.
        type: The type that it must have.
        words: What the names of such columns usually contain.
        reason: Why it is needed.
    """

    key: str
    name: str
    type: str
    words: tuple[str, ...]
    reason: str

    @property
    def title(self) -> str:
        """The column as a header spells it."""
        return f"{self.name}:{self.type}"


@dataclass(frozen=True)
class Loading:
    """What ``load_col`` and ``unload_col`` say of one kind of file; ``wanted`` None: all."""

    source: str
    wanted: tuple[str, ...] | None
    unwanted: tuple[str, ...]

    def has(self, name: str) -> bool:
        """Whether a column of the file is loaded."""
        return (self.wanted is None or name in self.wanted) and name not in self.unwanted


def is_sequential(settings: Settings) -> bool:
    """Whether the model is one of RecBole's sequential kind."""
    return getattr(settings.get("MODEL_TYPE"), "name", None) == "SEQUENTIAL"


def needed_roles(settings: Settings) -> list[Role]:
    """Columns that the interactions must have for this model, split and kind of files."""
    roles = []
    for key, words, noun in (
        ("USER_ID_FIELD", _USER_WORDS, "users' ids"),
        ("ITEM_ID_FIELD", _ITEM_WORDS, "items' ids"),
    ):
        if settings.get(key):
            name = str(settings[key])
            roles.append(Role(key, name, "token", words, f"every row needs one of the {noun}"))
    sequential, presplit = is_sequential(settings), bool(settings.get("benchmark_filename"))
    split = settings.get("eval_args")
    ordered = isinstance(split, Mapping) and split.get("order") == "TO"
    if presplit and sequential and settings.get("ITEM_ID_FIELD"):
        name = f"{settings['ITEM_ID_FIELD']}{settings.get('LIST_SUFFIX') or '_list'}"
        roles.append(Role("", name, "token_seq", (), "pre-split files bring each row's history"))
    elif not presplit and (sequential or ordered):
        reason = "sequential models order by it" if sequential else "eval_args.order TO sorts by it"
        name = str(settings.get("TIME_FIELD") or "timestamp")
        roles.append(Role("TIME_FIELD", name, "float", _TIME_WORDS, reason))
    return roles


def loading_of(settings: Settings, source: str) -> tuple[Loading, list[str]]:
    """Read ``load_col`` and ``unload_col`` for files such as ``inter`` or ``user``."""
    load, faults = _listed(settings, "load_col", source)
    unload, unload_faults = _listed(settings, "unload_col", source)
    if load and unload:
        unload_faults.append(
            f"load_col and unload_col both have an entry for {source}: remove one of them"
        )
    wanted = None if settings.get("load_col") is None else load
    return Loading(source, wanted, unload or ()), faults + unload_faults


def _listed(settings: Settings, key: str, source: str) -> tuple[tuple[str, ...] | None, list[str]]:
    """Columns of one source in a setting (None: all), and what is wrong with the setting."""
    value = settings.get(key)
    if value is None:
        return (), []
    if not isinstance(value, Mapping):
        return None, [f"{key} is {value!r}: write {key}: {{{source}: [column, ...]}}"]
    columns = value.get(source, ())
    if columns == "*" and key == "load_col":
        return None, []
    if isinstance(columns, str) or not isinstance(columns, (list, tuple, set)):
        return None, [f"{key}.{source} is {columns!r}: write {key}: {{{source}: [{columns}]}}"]
    return tuple(str(column) for column in columns), []


def role_faults(role: Role, header: Header, loading: Loading, where: str, roles: list[Role]) -> str:
    """Say what keeps a needed column from being read, with the remedy; empty if nothing does."""
    if role.name not in header.names:
        return _absent(role, header, loading, where, roles)
    if role.name in loading.unwanted:
        return (
            f"{where}: column {role.name!r} is in the file but not loaded, because "
            f"unload_col.{loading.source} lists it ({role.reason}): remove it there"
        )
    if not loading.has(role.name):
        return (
            f"{where}: column {role.name!r} is in the file but not loaded ({role.reason}): "
            f"set {_load_col(loading, header, roles)}"
        )
    found = header.type_of(role.name)
    if found in TYPES and found != role.type:
        return (
            f"{where}: column {role.name!r} is typed {found} but must be {role.type}: "
            f"write {role.title} in the header"
        )
    return ""


def _absent(role: Role, header: Header, loading: Loading, where: str, roles: list[Role]) -> str:
    named = f" ({role.key})" if role.key else ""
    message = (
        f"{where}: no column {role.name!r}{named}; columns found: {quoted_list(header.names)}; "
        f"{role.reason}"
    )
    guess = _guess(role, header, roles)
    if guess is None:
        free = role.key and set(header.names) - {other.name for other in roles}
        choice = f", or set {role.key} to one of those found" if free else ""
        return f"{message}: add a column headed {role.title}{choice}"
    remedy = f"set {role.key}: {guess}"
    if header.type_of(guess) != role.type:
        remedy += f", write {guess}:{role.type} in the header"
    if not loading.has(guess):
        remedy += f" and {_load_col(loading, header, roles)}"
    return f"{message}: {remedy}"


def _guess(role: Role, header: Header, roles: list[Role]) -> str | None:
    """The column that most likely plays a role whose own name is not in the header."""
    if role.name in header.names:
        return role.name
    taken = {other.name for other in roles}
    free = [name for name in header.names if name not in taken]
    for word in role.words:
        for name in free:
            if word in name.lower():
                return name
    return None


def _load_col(loading: Loading, header: Header, roles: list[Role]) -> str:
    """Spell a ``load_col`` that loads the columns of all roles and what it loads already."""
    needed = (_guess(role, header, roles) for role in roles)
    kept = (name for name in loading.wanted or () if name in header.names)
    columns = dict.fromkeys(name for name in (*needed, *kept) if name)
    return f"load_col: {{{loading.source}: [{', '.join(columns)}]}}"
