"""A service answers what its engine does; what an engine would refuse is a 4xx in three parts."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import threading
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.masks.rle import decode_mask
from xdecoder_rt.serving.app import Service, make_app
from xdecoder_rt.serving.lane import Lane
from xdecoder_rt.serving.limits import Limits, RefusedError
from xdecoder_rt.serving.shape import EXAMPLES
from xdecoder_rt.words.vocabulary import Vocabulary

WORDS = ["mug", "robot arm", "floor"]


def form(photo: bytes, **asked: Any) -> dict[str, Any]:
    return {"files": {"image": ("photo.png", photo)}, "data": {"request": json.dumps(asked)}}


def as_text(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def refusal(answer: Response, status: int) -> str:
    """Return the message of a refusal, which has three parts."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"what", "expected", "fix", "message"}
    message: str = error["message"]
    assert error["what"].split()[0] in message
    return message


def test_segments_are_the_engines_whether_asked_by_form_or_json(
    client: TestClient, engine: Engine, photo: bytes
) -> None:
    truth = engine.segment(photo, Vocabulary.parse(WORDS, ["floor"])).to_dict()
    asked = {"words": WORDS, "stuff": ["floor"]}
    by_form = client.post("/v1/segment", **form(photo, **asked)).json()
    by_json = client.post("/v1/segment", json={"image": as_text(photo), **asked}).json()
    assert by_form == by_json
    assert by_form["segments"] == truth["segments"]
    assert (by_form["height"], by_form["width"], by_form["plan"]) == (50, 70, "tiny")


def test_every_task_is_answered_as_by_the_engine(
    client: TestClient, engine: Engine, photo: bytes
) -> None:
    def post(name: str, **asked: Any) -> dict[str, Any]:
        answer = client.post(f"/v1/{name}", **form(photo, **asked))
        assert answer.status_code == 200, answer.text
        return answer.json()

    (truth,) = engine.refer(photo, ["the mug"])
    assert post("refer", phrases=["the mug"])["references"] == [truth.to_dict()]
    caption = engine.caption(photo, None, (5, 5, 40, 30), max_tokens=4)
    assert post("caption", region=[5, 5, 40, 30], max_tokens=4)["text"] == caption.text
    answer = engine.answer(photo, "is it open?", ["yes", "no"]).to_dict()
    assert (
        post("answer", question="is it open?", choices=["yes", "no"])["scores"] == answer["scores"]
    )
    values = post("embed", texts=["a mug"])
    np.testing.assert_array_equal(np.float32(values["embedding"]), engine.embed_image(photo))
    np.testing.assert_array_equal(np.float32(values["texts"]), engine.embed_text(["a mug"]))
    ranked = post("rank", texts=["a mug", "a table"])
    np.testing.assert_array_equal(
        np.float32(ranked["scores"]), engine.rank([photo], ["a mug", "a table"]).scores
    )
    output = engine.run(photo, segment=WORDS, refer=["the mug"], embed=True).to_dict()
    fused = post("run", words=WORDS, phrases=["the mug"], embed=True)
    assert fused["segment"] == output["segment"] and fused["refer"] == output["refer"]


def test_masks_come_as_png_or_not_at_all(client: TestClient, photo: bytes) -> None:
    def masks(kind: str) -> list[dict[str, Any]]:
        asked = form(photo, words=WORDS, task="instance", min_score=0, masks=kind)
        segments: list[dict[str, Any]] = client.post("/v1/segment", **asked).json()["segments"]
        return segments

    runs, pictures, bare = masks("rle"), masks("png"), masks("none")
    assert runs and all("mask" not in segment for segment in bare)
    for run, picture in zip(runs, pictures, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(picture["mask"]))) as image:
            assert image.mode == "1"
            np.testing.assert_array_equal(np.array(image), decode_mask(run["mask"]))


def test_words_have_rules(client: TestClient, engine: Engine, photo: bytes) -> None:
    words = ["mug", {"name": "knife", "synonyms": ["blade"], "threshold": 0.9}]
    answer = client.post("/v1/segment", **form(photo, words=words, task="semantic"))
    assert answer.status_code == 200, answer.text


def test_a_kept_image_answers_later_questions_until_others_take_its_place(
    client: TestClient, engine: Engine, photo: bytes
) -> None:
    first = client.post("/v1/images", **form(photo)).json()["image_id"]
    asked = {"image_id": first, "words": WORDS}
    answer = client.post("/v1/segment", json=asked).json()
    assert answer["segments"] == engine.segment(photo, WORDS).to_dict()["segments"]
    assert answer["image_id"] == first
    assert "There is no image" in refusal(
        client.post("/v1/segment", json={**asked, "plan": "other"}), 404
    )
    for _ in range(2):
        client.post("/v1/segment", **form(photo, words=WORDS, keep=True))
    assert "send the image again" in refusal(client.post("/v1/segment", json=asked), 404)


def test_a_kept_image_is_forgotten_when_told(client: TestClient, photo: bytes) -> None:
    kept = client.post("/v1/images", **form(photo)).json()["image_id"]
    assert client.delete(f"/v1/images/{kept}").status_code == 204
    refusal(client.delete(f"/v1/images/{kept}"), 404)


def bomb(side: int) -> bytes:
    """Return a PNG of one colour that is small and decodes to `side` x `side` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(
            ">I", zlib.crc32(name + data)
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_by_its_header(client: TestClient) -> None:
    data = bomb(10_000)
    assert len(data) < 20_000
    message = refusal(client.post("/v1/segment", **form(data, words=WORDS)), 413)
    assert "10000 x 10000 pixels" in message and "Fix: shrink it first" in message


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ({"words": []}, 422, "'words'"),
        ({"words": ["mug", "mug"]}, 400, "twice"),
        ({"words": [" "]}, 400, "empty"),
        ({"words": ["x" * 5000]}, 422, "1000 characters"),
        ({"words": ["mug"] * 5000}, 422, "512"),
        ({"words": WORDS, "task": "magic"}, 422, "'panoptic'"),
        ({"words": WORDS, "min_score": 7}, 422, "less than or equal to 1"),
        ({"words": WORDS, "task": "instance", "object_threshold": 0.5}, 400, "panoptic"),
        ({"words": WORDS, "wrods": 1}, 422, "'wrods'"),
        ({"words": WORDS, "plan": "gone"}, 404, "tiny, other"),
        ({"words": WORDS, "image": "AAAA"}, 400, "2 images"),
        ({"words": WORDS, "image_id": "x"}, 400, "2 images"),
    ],
)
def test_what_an_engine_would_refuse_is_told(
    client: TestClient, photo: bytes, asked: dict[str, Any], status: int, part: str
) -> None:
    assert part in refusal(client.post("/v1/segment", **form(photo, **asked)), status)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_image_is_told(client: TestClient, data: bytes) -> None:
    refusal(client.post("/v1/segment", **form(data, words=WORDS)), 400)


def test_half_an_image_is_told(client: TestClient, photo: bytes) -> None:
    refusal(client.post("/v1/segment", **form(photo[: len(photo) // 2], words=WORDS)), 400)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"words": ["\xff"]}', b'{"words": 1e999}'],
)
def test_broken_json_is_told(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    refusal(client.post("/v1/segment", content=body, headers=headers), 422)


def test_other_content_types_and_parts_are_told(client: TestClient, photo: bytes) -> None:
    assert "multipart" in refusal(client.post("/v1/segment", content=photo), 415)
    parts = {"files": {"picture": ("photo.png", photo)}}
    assert "'picture'" in refusal(client.post("/v1/segment", **parts), 400)
    many = {"files": [("image", ("photo.png", photo))] * 20}
    refusal(client.post("/v1/segment", **many), 400)


def test_a_huge_request_is_refused_before_it_is_read(client: TestClient) -> None:
    body = json.dumps({"image": "A" * (2 << 20), "words": WORDS}).encode()
    headers = {"content-type": "application/json"}
    assert "at most 1,048,576" in refusal(
        client.post("/v1/segment", content=body, headers=headers), 413
    )


def test_a_request_that_never_ends_is_let_go(service: Service) -> None:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {
        **{"type": "http", "method": "POST", "path": "/v1/segment", "query_string": b""},
        **{"headers": headers, "http_version": "1.1", "scheme": "http", "root_path": ""},
    }
    parts = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(make_app(service)(scope, receive, send))
    assert sent[0]["status"] == 408
    assert b"The request was not there after 1 s" in sent[1]["body"]


def test_the_page_health_and_metrics_are_there_and_load_nothing_of_others(
    client: TestClient, photo: bytes
) -> None:
    page = client.get("/")
    assert (
        page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    )
    for path in ("/", "/page.css", "/page.js"):
        assert "://" not in client.get(path).text
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").status_code == 200
    client.post("/v1/segment", **form(photo, words=WORDS))
    client.post("/v1/segment", **form(b"hello", words=WORDS))
    metrics = client.get("/metrics").text
    assert 'xdecoder_rt_requests_total{call="segment",status="200"} 1.0' in metrics
    assert 'xdecoder_rt_requests_total{call="segment",status="400"} 1.0' in metrics
    assert "xdecoder_rt_kept_images 0.0" in metrics
    (tiny, other) = client.get("/v1/plans").json()["plans"]
    assert tiny["name"] == "tiny" and "segment" in tiny["tasks"] and other["name"] == "other"


def test_openapi_describes_every_call_with_an_example(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for name in EXAMPLES:
        content = document["paths"][f"/v1/{name}"]["post"]["requestBody"]["content"]
        assert content["application/json"]["example"] == EXAMPLES[name]
        schema = content["multipart/form-data"]["schema"]["properties"]["request"]
        assert "plan" in schema["properties"] and "$ref" not in json.dumps(content)


def test_another_host_is_not_answered_on_this_machine(service: Service) -> None:
    with TestClient(make_app(service), base_url="http://evil.example") as client:
        assert "evil.example" in refusal(client.get("/healthz"), 403)


def test_a_wrong_token_is_refused_and_health_needs_none(engine: Engine, photo: bytes) -> None:
    service = Service({"tiny": engine}, token="0123456789abcdef", is_local=False)
    with TestClient(make_app(service)) as client:
        for headers in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": "Basic 0123456789abcdef"},
        ):
            answer = client.post("/v1/segment", **form(photo, words=WORDS), headers=headers)
            assert "Authorization: Bearer TOKEN" in refusal(answer, 401)
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == 200 == client.get("/").status_code
        headers = {"Authorization": "Bearer 0123456789abcdef"}
        answer = client.post("/v1/segment", **form(photo, words=WORDS), headers=headers)
        assert answer.status_code == 200


def test_a_full_queue_refuses_and_a_late_answer_is_told() -> None:
    async def crowd() -> list[object]:
        lane = Lane(replace(Limits(), waiting=1, seconds=0.3), 1)
        go = threading.Event()
        calls = [asyncio.create_task(lane.run(go.wait)) for _ in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert lane.busy == 1  # what runs keeps its place, what waited is dropped
        go.set()
        while lane.busy:
            await asyncio.sleep(0.01)
        assert await lane.run(lambda: "free") == "free"
        lane.close()
        return list(answers)

    running, waiting, refused = asyncio.run(crowd())
    assert isinstance(refused, RefusedError) and refused.status == 429
    for late in (running, waiting):
        assert isinstance(late, RefusedError) and late.status == 504
