"""Experts as people and programs see them: JSON for `--json` and the admin endpoints, tables for the terminal.

Knows the store's values and nothing of commands or HTTP.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from adapters_store.cache import Resident
from adapters_store.manifest import Manifest
from adapters_store.policy import Policy
from adapters_store.store import ExpertState
from engine.packing import PackingError
from engine.tier_stats import Holding, TierStats
from server.sizes import format_size
from server.terminal import plain

_SHOWN_EXAMPLES = 3
_NARROW = 110
"""Columns of a screen below which a list goes without lines, and keeps _LEAST_TEXT for what is told of each expert."""
_LEAST_TEXT = 24


def signature_label(signer: bytes | None, policy: Policy) -> str:
    """unsigned, trusted, or signed (by somebody whom the settings do not name)."""
    if signer is None:
        return "unsigned"
    return "trusted" if signer in policy.trusted_keys else "signed"


def state_data(state: ExpertState, policy: Policy) -> dict[str, Any]:
    """One expert for programs; no paths, since the admin endpoints send it too."""
    manifest = state.manifest
    data: dict[str, Any] = {
        "name": state.name,
        "generation": state.generation,
        "standby": state.standby,
        "aliases": list(state.aliases),
        "installed": state.is_installed,
        "pinned": state.is_pinned,
    }
    if manifest is None:
        return {**data, "fault": state.fault, "code": state.code}
    return {
        **data,
        "version": manifest.version,
        "kind": manifest.kind_label,
        "rank": manifest.adapter.rank,
        "base": manifest.base,
        "bytes": sum(entry.size for entry in manifest.files),
        "signature": signature_label(state.signer, policy),
        "signer": state.signer.hex() if state.signer else None,
    }


def resident_data(residents: Iterable[Resident]) -> list[dict[str, Any]]:
    """What host memory holds, for programs."""
    return [
        {
            "name": resident.name,
            "generation": resident.generation,
            "bytes": resident.num_bytes,
            "leases": resident.leases,
            "retired": resident.is_retired,
        }
        for resident in residents
    ]


def memory_data(residents: Iterable[Resident], holdings: Mapping[str, Iterable[Holding]]) -> list[dict[str, Any]]:
    """Who takes memory where, for programs: the package, its lowered form and its slot, a line for each generation.

    A package without weights takes next to nothing; what a retired one still takes goes with its last lease.
    """
    lines: dict[tuple[str, str | None], dict[str, Any]] = {}

    def line(name: str, generation: str | None) -> dict[str, Any]:
        empty = {"package_bytes": 0, "host_bytes": 0, "slot_bytes": 0, "leases": 0, "retired": False}
        return lines.setdefault((name, generation), {"name": name, "generation": generation, **empty})

    for resident in residents:
        entry = line(resident.name, resident.generation)
        entry["package_bytes"] += resident.num_bytes
        entry["leases"] += resident.leases
        entry["retired"] |= resident.is_retired
    for tier, key in (("host", "host_bytes"), ("device", "slot_bytes")):
        for holding in holdings.get(tier, ()):
            line(holding.name, holding.generation)[key] += holding.num_bytes
    return sorted(lines.values(), key=lambda entry: (entry["name"], entry["generation"] or ""))


def tier_data(tiers: Mapping[str, TierStats]) -> dict[str, Any]:
    """The tiers that lowered experts pass, for programs."""
    return {
        name: {
            "residents": stats.residents,
            "bytes": stats.num_bytes,
            "hits": stats.hits,
            "misses": stats.misses,
            "evictions": stats.evictions,
        }
        for name, stats in tiers.items()
    }


def grammar_label(manifest: Manifest) -> str:
    grammar = manifest.grammar
    return "" if grammar is None else grammar.library or grammar.file or ""


def list_table(states: Iterable[ExpertState], policy: Policy, width: int) -> Table:
    """All experts, the broken ones with what is wrong, for a screen of so many columns."""
    is_narrow = width < _NARROW
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0)) if is_narrow else Table()
    for title in ("expert", "version", "kind", "grammar", "generation", "signature"):
        table.add_column(title, overflow="fold")
    table.add_column("what it does", overflow="fold", width=_LEAST_TEXT if is_narrow else None)
    for state in states:
        if state.manifest is None:
            fault = Text(plain(f"{state.code}: {state.fault}"), style="red")
            table.add_row(Text(plain(state.name), style="red"), "", "", "", "", "", fault)
            continue
        manifest = state.manifest
        table.add_row(
            Text(_with_marks(state)),
            manifest.version,
            manifest.kind_label,
            grammar_label(manifest),
            short(state.generation),
            signature_label(state.signer, policy),
            Text(plain(manifest.description)),
        )
    return table


def storage_data(storage: Iterable[PackingError] | str) -> dict[str, Any]:
    """What each form of storage takes and costs, for programs; `error` is relative, 0.01 being one per cent."""
    if isinstance(storage, str):
        return {"fault": storage}
    return {
        one.storage: {"bytes": one.num_bytes, "error": one.whole, "error_by_module": dict(one.by_module)}
        for one in storage
    }


def show_table(state: ExpertState, policy: Policy, storage: Iterable[PackingError] | str) -> Table:
    """One expert, line by line."""
    table = Table(show_header=False, box=None)
    data = state_data(state, policy)
    manifest = state.manifest
    if manifest is not None:
        prompt = manifest.soft_prompt
        data |= {
            "bytes": format_size(data["bytes"]),
            "manifest": f"version {manifest.schema_version}",
            "targets": " ".join(manifest.adapter.targets),
            "virtual tokens": prompt.tokens if prompt else None,
            "grammar": grammar_label(manifest),
            "cues": len(manifest.routing.cues),
            "license": manifest.license,
            "source": manifest.source,
            "tags": " ".join(manifest.tags),
            "description": manifest.description,
        }
    for key, value in data.items():
        if value not in (None, "", []):
            table.add_row(key, Text(plain(" ".join(value) if isinstance(value, list) else str(value))))
    for example in manifest.routing.examples[:_SHOWN_EXAMPLES] if manifest else ():
        table.add_row("example", Text(plain(example)))
    for entry in manifest.files if manifest else ():
        table.add_row("file", Text(f"{entry.name}  {format_size(entry.size)}  {entry.sha256}"))
    if isinstance(storage, str):
        table.add_row("storage", Text(plain(f"not measured: {storage}")))
    else:
        for one in storage:
            table.add_row("storage", Text(_storage_line(one)))
    return table


def _storage_line(found: PackingError) -> str:
    """The whole, then the modules with the largest errors first."""
    line = f"{found.storage}  {format_size(found.num_bytes)}"
    if found.storage == "plain" or not found.by_module:
        return f"{line}  as it is in a slot"
    modules = sorted(found.by_module.items(), key=lambda item: -item[1])
    return f"{line}  error {found.whole:.2%}: " + ", ".join(f"{module} {error:.2%}" for module, error in modules)


def ps_table(state: Mapping[str, Any]) -> Table:
    """What the answer of `/admin/state` says of memory."""
    table = Table("expert", "generation", "package", "lowered", "slot", "leases", "note")
    for expert in state["experts"]:
        sizes = [
            format_size(expert[key]) if expert[key] else "" for key in ("package_bytes", "host_bytes", "slot_bytes")
        ]
        note = "retired" if expert["retired"] else ""
        table.add_row(expert["name"], short(expert["generation"]), *sizes, str(expert["leases"]), note)
    return table


def short(generation: str | None) -> str:
    return generation[:12] if generation else ""


def _with_marks(state: ExpertState) -> str:
    aliases = f" ({', '.join(state.aliases)})" if state.aliases else ""
    return state.name + aliases + (" · pinned" if state.is_pinned else "")
