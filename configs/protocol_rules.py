"""What `protocol` needs of itself, of the editor and of the data."""

from collections.abc import Iterator
from typing import Any

from configs import schema
from datamodules.source import DataOptions
from editors.options import EditorOptions
from editors.registry import editor_names, registration


def protocol_rules(command: str, sections: dict[str, Any]) -> Iterator[str]:
    """Points, turns, and an editor whose edits can be in place together."""
    del command
    protocol: schema.ProtocolOptions | None = sections.get("protocol")
    data: DataOptions | None = sections.get("data")
    if protocol is None:
        return
    if protocol.name == "single":
        yield from _single(protocol)
        return
    yield from _turns(protocol)
    yield from _editor(protocol, sections.get("editor"))
    if protocol.contradictions is None:
        yield f"protocol.contradictions is required with protocol={protocol.name}: last or error"
    if protocol.n is None:
        yield f"protocol.n is required with protocol={protocol.name}: add protocol.n=1,10,100"
    elif data is not None and data.limit is not None and data.limit < protocol.n[-1]:
        yield (
            f"protocol.n={_points(protocol)} makes {protocol.n[-1]} edits, and "
            f"data.limit={data.limit} leaves fewer: raise data.limit, or leave it out"
        )


def keeps_edits(sections: dict[str, Any]) -> str | None:
    """The protocol's name where many edits are in place at once; None under single editing."""
    protocol: schema.ProtocolOptions | None = sections.get("protocol")
    return None if protocol is None or protocol.name == "single" else protocol.name


def _single(protocol: schema.ProtocolOptions) -> Iterator[str]:
    if protocol.n is not None:
        yield (
            f"protocol.n={_points(protocol)} says how many edits are in place, and under single "
            "editing it is always one: add protocol=sequential, or protocol=batch for one update"
        )
    if protocol.turn is not None:
        yield (
            f"protocol.turn={protocol.turn} says how many edits one update makes of those that "
            "follow on each other: add protocol=sequential"
        )
    if protocol.contradictions is not None:
        yield (
            f"protocol.contradictions={protocol.contradictions} is about edits of one update, and "
            "single edits do not meet: add protocol=sequential or protocol=batch"
        )


def _turns(protocol: schema.ProtocolOptions) -> Iterator[str]:
    turn, points = protocol.turn, protocol.n
    if protocol.name == "batch":
        if turn is not None:
            yield (
                f"protocol.turn={turn} with protocol=batch, which makes all edits of a point in "
                "one update: leave it out, or use protocol=sequential"
            )
        return
    if turn is None:
        yield "protocol.turn is required with protocol=sequential: protocol.turn=1, edit by edit"
    elif points is not None and turn > points[-1]:
        yield (
            f"protocol.turn={turn} is more edits than protocol.n={_points(protocol)} makes: give "
            f"protocol.turn={points[-1]} or less, or a larger last value of protocol.n"
        )
    elif points is not None and (inside := [n for n in points[:-1] if n % turn]):
        reached = [str(n) for n in points if n not in inside]
        yield (
            f"protocol.n={_points(protocol)} with protocol.turn={turn}: a turn is one update, and "
            f"there is nothing to judge within one, as at {', '.join(map(str, inside))}. Every "
            "value of protocol.n but the last is a multiple of protocol.turn: give protocol.n="
            f"{','.join(reached)}; protocol=batch makes any number in one update"
        )


def _editor(protocol: schema.ProtocolOptions, editor: EditorOptions | None) -> Iterator[str]:
    if editor is None:
        return
    if protocol.name == "sequential" and not editor.sequential:
        sequential = [name for name in editor_names() if registration(name).options.sequential]
        yield (
            f"editor={editor.name} has no way to keep edits in place, which protocol=sequential "
            f"asks for; these have: {', '.join(sequential)}"
        )
        return
    in_one = protocol.name == "batch" or (protocol.turn or 1) > 1
    if not in_one or editor.together:
        return
    able = [name for name in editor_names() if registration(name).options.together]
    asking = f"protocol.turn={protocol.turn}" if protocol.turn else "protocol=batch"
    yield (
        f"editor={editor.name} has no way to make many edits in one update, which {asking} asks "
        f"for; these have: {', '.join(able) or 'none of the editors here'}"
        + ("" if not editor.sequential else ". protocol=sequential makes its edits one by one")
    )


def _points(protocol: schema.ProtocolOptions) -> str:
    return ",".join(map(str, protocol.n or ()))
