"""The application: routes of FastAPI over the engines of one or several plans."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from xdecoder_rt import __version__
from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import XDecoderError, quoted
from xdecoder_rt.files.image_file import read_header
from xdecoder_rt.questions.question import AnyImage
from xdecoder_rt.serving import asked as ask
from xdecoder_rt.serving.answers import output_answer, with_masks
from xdecoder_rt.serving.guard import Guard
from xdecoder_rt.serving.kept import KeptImages
from xdecoder_rt.serving.lane import Lane
from xdecoder_rt.serving.limits import Limits, RefusedError, described, status_of
from xdecoder_rt.serving.metrics import Metrics
from xdecoder_rt.serving.shape import EXAMPLES, body_shape
from xdecoder_rt.state import ImageState
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import Word

__all__ = ["Service", "make_app", "run_answer"]

_Asked = TypeVar("_Asked", bound=ask.Asked)
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_PAGE_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@dataclass
class Service:
    """What the routes share.

    Attributes:
        engines: by the names of their plans; the first is asked where none is named.
        limits: the bounds.
        threads: how many calls run at a time.
        token: what clients must have, or None.
        is_local: whether only this machine is answered.
    """

    engines: Mapping[str, Engine]
    limits: Limits = field(default_factory=Limits)
    threads: int = 1
    token: str | None = None
    is_local: bool = True

    def __post_init__(self) -> None:
        self.lane = Lane(self.limits, self.threads)
        self.kept = KeptImages(self.limits.kept)
        self.metrics = Metrics(lambda: self.lane.busy, lambda: len(self.kept))

    def engine(self, name: str | None) -> tuple[str, Engine]:
        """Return a plan's name and engine.

        Raises:
            RefusedError: 404: there is no such plan.
        """
        chosen = next(iter(self.engines)) if name is None else name
        if chosen not in self.engines:
            raise RefusedError(
                404,
                f"There is no plan {quoted(chosen)}",
                expected=f"one of {', '.join(self.engines)}",
            )
        return chosen, self.engines[chosen]

    def image(
        self, plan: str, engine: Engine, asked: ask.ImageAsked, file: bytes | None
    ) -> ImageState:
        """Return the image of a request, encoded."""
        given = [file is not None, asked.image is not None, asked.image_id is not None]
        if sum(given) != 1:
            raise RefusedError(
                400,
                f"The request has {sum(given)} images",
                expected="one: a part 'image' of a form, 'image' in base64, or 'image_id'",
            )
        if asked.image_id is not None:
            return self.kept.get(plan, asked.image_id)
        data = file if file is not None else _decoded(asked.image or "")
        return self.encode(engine, data)

    def encode(self, engine: Engine, data: bytes) -> ImageState:
        """Return an image file, encoded; its size is bounded before it is decoded.

        Raises:
            ImageError: it cannot be read.
            RefusedError: 413: it has too many pixels.
        """
        height, width = read_header(data).upright
        if height * width > self.limits.pixels:
            raise RefusedError(
                413,
                f"The image has {width} x {height} pixels",
                expected=f"at most {self.limits.pixels:,}",
                fix="shrink it first",
            )
        return engine.encode(data)

    def close(self) -> None:
        """Wait for what runs, and let go of images."""
        self.lane.close()
        self.kept.clear()


def make_app(service: Service) -> FastAPI:
    """Return the application.

    Args:
        service: engines and bounds; it is closed when the application ends.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="xdecoder_rt",
        version=__version__,
        description="Words, phrases, captions and questions on images. Errors say what is wrong, "
        "what was expected and what to do.",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts of another host
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(
        Guard,
        limits=service.limits,
        token=service.token,
        hosts=_LOOPBACK if service.is_local else None,
        open_paths=("/healthz", "/readyz", *_PAGE_FILES),
    )
    _add_errors(app)
    _add_pages(app, service)
    for path, (kind, call) in _CALLS.items():
        _add_call(app, service, path, kind, call)
    _add_images(app, service)
    return app


def _add_call(
    app: FastAPI,
    service: Service,
    path: str,
    kind: type[_Asked],
    call: Callable[[Service, _Asked, list[bytes]], dict[str, Any]],
) -> None:
    """Add a route that reads a request of one kind and answers it in an engine's thread."""
    name = path.rpartition("/")[2]

    async def answer(request: Request) -> JSONResponse:
        start = time.perf_counter()
        status = 500
        try:
            asked, files_ = await _read(request, kind, service.limits)
            values = await service.lane.run(lambda: call(service, asked, files_))
            status = 200
            return JSONResponse(values)
        except XDecoderError as error:
            status = status_of(error)
            raise
        finally:
            service.metrics.observe(name, status, time.perf_counter() - start)

    app.post(
        path,
        name=name,
        summary=(kind.__doc__ or "").partition("\n")[0],
        openapi_extra=body_shape(kind, EXAMPLES[name]),
        responses={
            code: {"description": text}
            for code, text in (
                (400, "Image, words or arguments are refused"),
                (401, "Token"),
                (404, "No such plan or image"),
                (413, "Too large"),
                (422, "Fields are missing or wrong"),
                (429, "Too many requests"),
                (504, "No answer in time"),
            )
        },
    )(answer)


async def _read(request: Request, kind: type[_Asked], limits: Limits) -> tuple[_Asked, list[bytes]]:
    """Return a request's fields, from JSON or a form, and the image files of a form."""
    form = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    images: list[bytes] = []
    if form == "application/json":
        text: bytes | str = await request.body()
    elif form == "multipart/form-data":
        text = "{}"
        async with request.form(
            max_files=limits.images, max_fields=4, max_part_size=limits.body_bytes
        ) as parts:
            for name, value in parts.multi_items():
                if name == "image" and not isinstance(value, str):
                    images.append(await value.read())
                elif name == "request":
                    text = value if isinstance(value, str) else await value.read()
                else:
                    raise RefusedError(
                        400,
                        f"The form has a part {quoted(name)}",
                        expected="files 'image' and a part 'request' of JSON",
                    )
    else:
        raise RefusedError(
            415,
            f"The content type is {quoted(form)}",
            expected="application/json or multipart/form-data",
        )
    return kind.model_validate_json(text), images


def _add_images(app: FastAPI, service: Service) -> None:
    """Add the routes that keep and forget images."""

    async def forget(image_id: str) -> Response:
        if not service.kept.remove(image_id):
            raise RefusedError(404, f"There is no image {quoted(image_id)}")
        return Response(status_code=204)

    app.delete("/v1/images/{image_id}", summary="Forget a kept image")(forget)


def _add_errors(app: FastAPI) -> None:
    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, XDecoderError)
        status = status_of(error)
        headers = {"Retry-After": "1"} if status in (429, 503) else None
        return JSONResponse(described(error), status, headers)

    async def wrong_fields(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ValidationError)
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        more = error.error_count() - 1
        what = f"{quoted(place)}: {first['msg']}" if place else str(first["msg"])
        refused = RefusedError(
            422,
            what + (f" (and {more} more)" if more else ""),
            expected="the fields that /openapi.json describes",
        )
        return JSONResponse(described(refused), 422)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        fix = "see /openapi.json" if error.status_code in (404, 405) else None
        refused = RefusedError(error.status_code, str(error.detail), fix=fix)
        return JSONResponse(described(refused), error.status_code, error.headers)

    app.add_exception_handler(XDecoderError, ours)
    app.add_exception_handler(ValidationError, wrong_fields)
    app.add_exception_handler(HTTPException, http)


def _add_pages(app: FastAPI, service: Service) -> None:
    """Add the page, health, metrics and the list of plans."""

    def page(path: str) -> Callable[[], Response]:
        name, kind = _PAGE_FILES[path]
        content = files("xdecoder_rt.serving").joinpath(name).read_bytes()
        headers = {"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"}

        def give() -> Response:
            return Response(content, media_type=kind, headers=headers)

        return give

    for path in _PAGE_FILES:
        app.get(path, include_in_schema=False)(page(path))

    async def health() -> dict[str, str]:
        return {"status": "alive"}

    async def readiness() -> JSONResponse:
        is_ready = service.lane.busy < service.limits.waiting + service.threads
        return JSONResponse({"status": "ready" if is_ready else "busy"}, 200 if is_ready else 503)

    def metrics() -> Response:
        content, kind = service.metrics.page()
        return Response(content, media_type=kind)

    async def plans() -> dict[str, Any]:
        return {
            "plans": [
                {
                    "name": name,
                    "tasks": sorted(engine.manifest.tasks),
                    "backend": engine.backend.name,
                }
                for name, engine in service.engines.items()
            ]
        }

    app.get("/healthz", summary="Whether the service runs")(health)
    app.get("/readyz", summary="Whether it takes requests")(readiness)
    app.get("/metrics", summary="Prometheus", include_in_schema=False)(metrics)
    app.get("/v1/plans", summary="The plans and their tasks")(plans)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(
            400, "'image' is no base64", expected="a whole image file in base64"
        ) from error


def _one_file(files_: list[bytes]) -> bytes | None:
    if len(files_) > 1:
        raise RefusedError(400, f"The form has {len(files_)} images", expected="one")
    return files_[0] if files_ else None


def _vocabulary(words: list[Any], stuff: list[str]) -> Vocabulary:
    entries = [word if isinstance(word, str) else Word(**word.model_dump()) for word in words]
    names = {entry if isinstance(entry, str) else entry.name for entry in entries}
    return Vocabulary.parse([*entries, *(word for word in stuff if word not in names)], stuff)


def _answered(
    service: Service,
    asked: ask.ImageAsked,
    files_: list[bytes],
    call: Callable[[Engine, ImageState], dict[str, Any]],
) -> dict[str, Any]:
    """Answer a request about one image, with its size, and its id where it is to be kept."""
    plan, engine = service.engine(asked.plan)
    state = service.image(plan, engine, asked, _one_file(files_))
    height, width = state.letterbox.source
    values = {"plan": plan, "width": width, "height": height, **call(engine, state)}
    if asked.image_id is not None:
        values["image_id"] = asked.image_id
    elif asked.keep:
        values["image_id"] = service.kept.add(plan, state)
    return values


def _segment(service: Service, asked: ask.SegmentAsked, files_: list[bytes]) -> dict[str, Any]:
    def call(engine: Engine, state: ImageState) -> dict[str, Any]:
        result = engine.segment(
            state,
            _vocabulary(asked.words, asked.stuff),
            task=asked.task,
            min_score=asked.min_score,
            object_threshold=asked.object_threshold,
            overlap_threshold=asked.overlap_threshold,
        ).to_dict()
        return {
            "task": result["task"],
            "segments": [with_masks(segment, asked.masks) for segment in result["segments"]],
        }

    return _answered(service, asked, files_, call)


def _refer(service: Service, asked: ask.ReferAsked, files_: list[bytes]) -> dict[str, Any]:
    def call(engine: Engine, state: ImageState) -> dict[str, Any]:
        found = engine.refer(state, asked.phrases, joint=asked.joint, min_score=asked.min_score)
        return {"references": [with_masks(one.to_dict(), asked.masks) for one in found]}

    return _answered(service, asked, files_, call)


def _caption(service: Service, asked: ask.CaptionAsked, files_: list[bytes]) -> dict[str, Any]:
    def call(engine: Engine, state: ImageState) -> dict[str, Any]:
        return engine.caption(
            state,
            asked.prompt,
            None if asked.region is None else tuple(asked.region),
            beams=asked.beams,
            max_tokens=asked.max_tokens,
        ).to_dict()

    return _answered(service, asked, files_, call)


def _answer(service: Service, asked: ask.AnswerAsked, files_: list[bytes]) -> dict[str, Any]:
    def call(engine: Engine, state: ImageState) -> dict[str, Any]:
        return engine.answer(state, asked.question, asked.choices).to_dict()

    return _answered(service, asked, files_, call)


def _embed(service: Service, asked: ask.EmbedAsked, files_: list[bytes]) -> dict[str, Any]:
    plan, engine = service.engine(asked.plan)
    has_image = bool(files_) or asked.image is not None or asked.image_id is not None
    if not has_image and not asked.texts:
        raise RefusedError(400, "There is nothing to embed", expected="an image, texts, or both")
    texts = {"texts": engine.embed_text(asked.texts).tolist()} if asked.texts else {}
    if not has_image:
        return {"plan": plan, **texts}

    def call(engine: Engine, state: ImageState) -> dict[str, Any]:
        return {"embedding": engine.embed_image(state).tolist(), **texts}

    return _answered(service, asked, files_, call)


def _rank(service: Service, asked: ask.RankAsked, files_: list[bytes]) -> dict[str, Any]:
    plan, engine = service.engine(asked.plan)
    data = [*files_, *(_decoded(image) for image in asked.images)]
    if not 1 <= len(data) + len(asked.image_ids) <= service.limits.images:
        raise RefusedError(
            400,
            f"The request has {len(data) + len(asked.image_ids)} images",
            expected=f"1 to {service.limits.images}",
        )
    states: list[AnyImage] = [service.encode(engine, image) for image in data]
    states += [service.kept.get(plan, id_) for id_ in asked.image_ids]
    return {"plan": plan, **engine.rank(states, asked.texts).to_dict()}


def run_answer(service: Service, asked: ask.RunAsked, files_: list[bytes]) -> dict[str, Any]:
    """Answer a request of ``/v1/run``: `files_` has its image, unless the request does.

    Raises:
        XDecoderError: it is refused.
    """

    def call(engine: Engine, state: ImageState) -> dict[str, Any]:
        output = engine.run(
            state,
            segment=None if asked.words is None else _vocabulary(asked.words, asked.stuff),
            task=asked.task,
            min_score=asked.min_score,
            object_threshold=asked.object_threshold,
            overlap_threshold=asked.overlap_threshold,
            refer=asked.phrases,
            joint=asked.joint,
            caption=asked.caption,
            prompt=asked.prompt,
            region=None if asked.region is None else tuple(asked.region),
            beams=asked.beams,
            max_tokens=asked.max_tokens,
            answer=asked.question,
            choices=asked.choices,
            embed=asked.embed,
        )
        return output_answer(output, asked.masks)

    return _answered(service, asked, files_, call)


def _keep(service: Service, asked: ask.ImageAsked, files_: list[bytes]) -> dict[str, Any]:
    asked.keep = True
    return _answered(service, asked, files_, lambda engine, state: {})


_CALLS: Mapping[str, tuple[type[Any], Callable[[Service, Any, list[bytes]], dict[str, Any]]]] = {
    "/v1/segment": (ask.SegmentAsked, _segment),
    "/v1/refer": (ask.ReferAsked, _refer),
    "/v1/caption": (ask.CaptionAsked, _caption),
    "/v1/answer": (ask.AnswerAsked, _answer),
    "/v1/embed": (ask.EmbedAsked, _embed),
    "/v1/rank": (ask.RankAsked, _rank),
    "/v1/run": (ask.RunAsked, run_answer),
    "/v1/images": (ask.ImageAsked, _keep),
}
