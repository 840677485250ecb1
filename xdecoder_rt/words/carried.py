"""Vocabularies that travel inside a plan, embedded: a device that knows them runs no text graph."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import PlanError, VocabularyError, quoted
from xdecoder_rt.plan.file import Plan, Source, write_plan
from xdecoder_rt.plan.manifest import Manifest, VocabularyInfo
from xdecoder_rt.plan.sharing import in_current_form
from xdecoder_rt.words.cache import TextCache
from xdecoder_rt.words.encoder import class_key, is_embedding
from xdecoder_rt.words.files import words_from_json, words_to_json
from xdecoder_rt.words.store import Vector
from xdecoder_rt.words.vectors import read_vectors
from xdecoder_rt.words.vocabulary import Vocabulary

__all__ = ["PlanWords", "cache_of", "carry", "check_name", "templates_digest"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


class PlanWords:
    """The vocabularies of an open plan, read on first need. Calls may come from many threads.

    Args:
        plan: stays open as long as this is used.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._vocabularies: Mapping[str, Vocabulary] | None = None

    def vocabularies(self) -> Mapping[str, Vocabulary]:
        """Return vocabularies by name, with the rules and ids that they were made with.

        Raises:
            PlanError: a member is damaged or is no vocabulary.
        """
        with self._lock:
            if self._vocabularies is None:
                infos = self._plan.manifest.vocabularies
                self._vocabularies = MappingProxyType(
                    {info.name: self._vocabulary(info) for info in infos}
                )
            return self._vocabularies

    def vectors(self) -> dict[str, Vector]:
        """Return embeddings of all their words and of the void class, as a text cache knows them.

        Raises:
            PlanError: a member is damaged or of the wrong size.
        """
        text = self._plan.manifest.text
        vectors: dict[str, Vector] = {}
        for info in self._plan.manifest.vocabularies:
            words = self.vocabularies()[info.name]
            rows = read_vectors(
                self._plan, info.embeddings, info.count + 1, f"words of {quoted(info.name)}"
            )
            names = (*words.texts, text.background)
            for index, row in enumerate(rows):
                if index not in words.examples:  # whose row is no text's
                    vectors[class_key(names[index])] = row
        return vectors

    def _vocabulary(self, info: VocabularyInfo) -> Vocabulary:
        try:
            words = Vocabulary.from_list(words_from_json(self._plan.read(info.texts)))
        except VocabularyError as error:
            raise PlanError(
                f"The vocabulary {quoted(info.name)} of the plan is unusable: {error.what}",
                expected=error.expected,
            ) from error
        if len(words.texts) != info.count:
            raise PlanError(
                f"The vocabulary {quoted(info.name)} of the plan has {len(words.texts)} texts",
                expected=f"the {info.count} that the manifest says",
            )
        return words


def cache_of(plan: Plan, words: PlanWords, directory: str | os.PathLike[str] | None) -> TextCache:
    """Open the text cache of a plan: what it carries, and its text graph's entries in a folder.

    Embeddings are the text graph's, so they outlive a plan that keeps it.
    """
    manifest = plan.manifest
    info = manifest.text
    templates = "\n".join((*info.templates, *info.strip_suffixes))
    namespace = f"{manifest.text_graph_sha256}\n{templates}"
    return TextCache(
        directory, namespace=namespace, carried=words.vectors, accepts=partial(is_embedding, info)
    )


def templates_digest(manifest: Manifest) -> str:
    """Return the SHA-256 of all that class names are put into, hexadecimal."""
    info = manifest.text
    parts = [info.templates, info.strip_suffixes, info.background, info.context_length]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_name(name: str) -> str:
    """Return `name` if a vocabulary of a plan may be called so.

    Raises:
        VocabularyError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise VocabularyError(
            f"The name {quoted(name)} cannot be a vocabulary's",
            expected="at most 60 letters, digits, - and _",
            fix="rename the file of words, or say --name with vocab embed",
        )
    return name


def carry(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    name: str,
    vocabulary: Vocabulary,
    table: npt.NDArray[np.float32],
) -> Manifest:
    """Write a plan anew with a vocabulary, in place of one of the same name.

    Args:
        source: a plan.
        output: the plan to write; may be the same file.
        name: letters, digits, "-" and "_".
        vocabulary: the words.
        table: their class table, ``[texts + 1, proj_dim]``, by the plan's own text graph.

    Raises:
        VocabularyError: the name cannot be one.
        PlanError: the source is not a sound plan.
        BuildError: the output cannot be written.
    """
    check_name(name)
    with Plan.open(source) as plan:
        manifest = plan.manifest
        replaced_infos = [info for info in manifest.vocabularies if info.name == name]
        replaced_members = {
            member for info in replaced_infos for member in (info.texts, info.embeddings)
        }
        members: dict[str, Source] = {
            member: partial(plan.chunks, member)
            for member in plan.names
            if member not in replaced_members
        }
        folder = f"vocabularies/{name}"
        info = VocabularyInfo(name, f"{folder}.json", f"{folder}.f32", count=len(vocabulary.texts))
        members[info.texts] = words_to_json(vocabulary.words, vocabulary.other, vocabulary.next_id)
        members[info.embeddings] = np.ascontiguousarray(table, "<f4").tobytes()
        other_infos = tuple(other for other in manifest.vocabularies if other.name != name)
        updated = replace(manifest, vocabularies=(*other_infos, info))
        return write_plan(output, *in_current_form(updated, members))
