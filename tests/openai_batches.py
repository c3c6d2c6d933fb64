"""Files and batches of the stand-in of an OpenAI-compatible server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from typing import cast

from tests.openai_calls import Call, OpenAIStandIn
from tests.openai_replies import (
    Answer,
    Failure,
    Json,
    Reply,
    Request,
    completion_of,
    error_of,
)

STATES = ("validating", "in_progress", "finalizing", "completed")
CHAT = "/v1/chat/completions"


def _upload(call: Call) -> None:
    head = f"Content-Type: {call.headers['Content-Type']}\r\n\r\n".encode()
    form = message_from_bytes(head + call.body, policy=policy.HTTP)
    parts = {str(part.get_param("name", header="content-disposition")): part
             for part in form.iter_parts()}  # fmt: skip
    purpose = parts["purpose"].get_payload(decode=True)
    if purpose != b"batch":
        call.fail(Failure(400, f"purpose {purpose!r} is not served here"))
        return
    content = cast(bytes, parts["file"].get_payload(decode=True))
    name = _store(call.stand_in, content)
    call.json(_file(name, content, str(parts["file"].get_filename())))


def _store(stand_in: OpenAIStandIn, content: bytes) -> str:
    with stand_in.lock:
        name = f"file-{len(stand_in.files)}"
        stand_in.files[name] = content
    return name


def _file(name: str, content: bytes, filename: str = "batch.jsonl") -> Json:
    return {
        "id": name, "object": "file", "bytes": len(content), "created_at": int(time.time()),
        "filename": filename, "purpose": "batch", "status": "processed",
    }  # fmt: skip


def _file_info(call: Call, name: str) -> None:
    content = call.stand_in.files.get(name)
    if content is None:
        call.fail(Failure(404, f"No such File object: {name}"))
    else:
        call.json(_file(name, content))


def _file_content(call: Call, name: str) -> None:
    content = call.stand_in.files.get(name)
    if content is None:
        call.fail(Failure(404, f"No such File object: {name}"))
    else:
        call.send(content, 200, {"Content-Type": "application/octet-stream"})


def _create(call: Call) -> None:
    given = json.loads(call.body)
    stand_in = call.stand_in
    if given.get("endpoint") != CHAT or given.get("completion_window") != "24h":
        call.fail(Failure(400, "endpoint or completion_window is not one that is served"))
        return
    if given.get("input_file_id") not in stand_in.files:
        call.fail(Failure(400, f"Invalid file: {given.get('input_file_id')}"))
        return
    with stand_in.lock:
        name = f"batch_{len(stand_in.batches)}"
        stand_in.batches[name] = {
            "id": name, "object": "batch", "endpoint": CHAT, "errors": None,
            "input_file_id": given["input_file_id"], "completion_window": "24h",
            "status": "validating", "output_file_id": None, "error_file_id": None,
            "created_at": int(time.time()), "metadata": given.get("metadata"),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }  # fmt: skip
    call.json(stand_in.batches[name])


def _retrieve(call: Call, name: str) -> None:
    batch = call.stand_in.batches.get(name)
    if batch is None:
        call.fail(Failure(404, f"No batch found with id '{name}'."))
        return
    batch["polls"] = batch.get("polls", 0) + 1
    if batch["status"] in STATES[:-1]:
        _advance(call.stand_in, batch)
    call.json(batch)


def _advance(stand_in: OpenAIStandIn, batch: Json) -> None:
    """Validated when first looked at, done after so many looks as the stand-in says."""
    lines = stand_in.files[batch["input_file_id"]].decode().splitlines()
    if wrong := _wrong_lines(lines):
        batch |= {"status": "failed", "errors": {"object": "list", "data": wrong}}
    elif batch["polls"] <= stand_in.polls:
        batch |= {"status": STATES[min(batch["polls"], 2)]}
        batch["request_counts"]["total"] = len(lines)
    else:
        _finish(stand_in, batch, [json.loads(line) for line in lines])


def _wrong_lines(lines: list[str]) -> list[Json]:
    wrong: list[Json] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        try:
            given = json.loads(line)
            code = "duplicate_custom_id" if given["custom_id"] in seen else ""
            seen.add(given["custom_id"])
            is_served = (given["method"], given["url"]) == ("POST", CHAT)
            code = code or ("" if is_served else "mismatched_endpoint")
        except (ValueError, KeyError):
            code = "invalid_json_line"
        if code:
            wrong.append({"code": code, "line": number, "message": code, "param": None})
    return wrong


def _finish(stand_in: OpenAIStandIn, batch: Json, lines: list[Json]) -> None:
    """Every line is answered, or is one of the file of errors; the order is another one."""
    outcomes = [_outcome(stand_in, line) for line in reversed(lines)]
    good = [said for is_good, said in outcomes if is_good]
    bad = [said for is_good, said in outcomes if not is_good]
    for key, part in (("output_file_id", good), ("error_file_id", bad)):
        if part:
            content = "".join(f"{json.dumps(line)}\n" for line in part).encode()
            batch[key] = _store(stand_in, stand_in.result(content))
    counts = {"total": len(lines), "completed": len(good), "failed": len(bad)}
    batch |= {"status": "completed", "request_counts": counts}


def _outcome(stand_in: OpenAIStandIn, line: Json) -> tuple[bool, Json]:
    request, reply = stand_in.take(line["body"], is_in_batch=True)
    status, body = _result(request, reply)
    response = {"status_code": status, "request_id": f"req_{request.number}", "body": body}
    said = {"id": f"batch_req_{request.number}", "custom_id": line["custom_id"]}
    return status == 200, {**said, "response": response, "error": None}


def _result(request: Request, reply: Reply) -> tuple[int, Json]:
    if isinstance(reply, Answer):
        return 200, completion_of(request, reply)
    failure = reply if isinstance(reply, Failure) else Failure(500, f"{reply}")
    return failure.status, error_of(failure)


def _cancel(call: Call, name: str) -> None:
    batch = call.stand_in.batches[name]
    batch["status"] = "cancelled"
    call.json(batch)


def _list(call: Call) -> None:
    batches = [*call.stand_in.batches.values()][::-1]
    call.json({"object": "list", "data": batches, "has_more": False})


CALLS: dict[str, Callable[..., None]] = {
    r"POST /v1/files": _upload,
    r"GET /v1/files/([^/]+)": _file_info,
    r"GET /v1/files/([^/]+)/content": _file_content,
    r"POST /v1/batches": _create,
    r"GET /v1/batches": _list,
    r"GET /v1/batches/([^/]+)": _retrieve,
    r"POST /v1/batches/([^/]+)/cancel": _cancel,
}
