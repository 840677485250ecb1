"""Names of things: synonyms, and which names are kept from training to measure generalisation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from xdecoder_rt.scenes.scene import unit_hash

__all__ = ["SYNONYMS", "canonical", "held_out", "synonyms"]

HELD_OUT_SHARE = 0.075
"""Share of the names drawn by hash; compounds and synonyms of these make it about a tenth."""

_SALT = "held-out names 59"

SYNONYMS: Final[tuple[tuple[str, ...], ...]] = (
    ("airplane", "aeroplane", "plane", "aircraft"),
    ("apartment building", "block of flats"),
    ("backpack", "rucksack"),
    ("bathtub", "bath"),
    ("bison", "buffalo"),
    ("bookcase", "bookshelf"),
    ("chest of drawers", "dresser"),
    ("chimpanzee", "chimp"),
    ("crib", "cot"),
    ("eggplant", "aubergine"),
    ("faucet", "tap"),
    ("gravestone", "tombstone", "headstone"),
    ("hippopotamus", "hippo"),
    ("kiwi fruit", "kiwi"),
    ("microwave oven", "microwave"),
    ("nightstand", "bedside table"),
    ("pitcher", "jug"),
    ("potato chips", "crisps"),
    ("ball", "sphere"),
    ("beer", "beer mug"),
    ("bicycle", "bike"),
    ("billiard ball", "pool ball"),
    ("bin", "container", "open box"),
    ("bolt", "hex bolt"),
    ("camcorder", "video camera"),
    ("can", "tin can", "soda can"),
    ("candy", "sweet"),
    ("car", "automobile"),
    ("cardboard box", "carton"),
    ("coins", "stack of coins"),
    ("compact disc", "cd"),
    ("computer mouse", "mouse for a computer"),
    ("couch", "sofa"),
    ("cow", "cattle"),
    ("crayfish", "crawfish", "lobster"),
    ("cube", "block"),
    ("desk lamp", "reading lamp"),
    ("dice", "die"),
    ("digital camera", "photo camera"),
    ("fire truck", "fire engine"),
    ("firefighter", "fireman"),
    ("flip-flops", "sandals"),
    ("frying pan", "skillet"),
    ("game controller", "gamepad"),
    ("gear", "cogwheel", "cog"),
    ("gift", "present"),
    ("glass", "drinking glass", "tumbler"),
    ("globe", "earth"),
    ("grapes", "bunch of grapes"),
    ("gripper", "robot gripper", "robot hand"),
    ("gun", "pistol", "handgun"),
    ("hamburger", "burger"),
    ("handbag", "purse"),
    ("hot dog", "frankfurter in a bun"),
    ("hourglass", "sandglass"),
    ("house", "home"),
    ("ladybug", "ladybird"),
    ("laptop", "notebook computer"),
    ("leaf", "autumn leaf"),
    ("light bulb", "lightbulb"),
    ("lightning bolt", "lightning"),
    ("magnifying glass", "magnifier"),
    ("mobile phone", "cell phone", "cellphone"),
    ("monitor", "computer screen", "display"),
    ("motorcycle", "motorbike"),
    ("mug", "coffee mug"),
    ("musical note", "music note"),
    ("necktie", "tie"),
    ("nut", "hex nut"),
    ("office chair", "swivel chair"),
    ("orca", "killer whale"),
    ("paintbrush", "brush"),
    ("padlock", "lock"),
    ("paper clip", "paperclip"),
    ("pda", "palmtop computer"),
    ("pen", "ballpoint pen"),
    ("pig", "hog"),
    ("popsicle", "ice pop"),
    ("police officer", "policeman"),
    ("pruning shears", "secateurs"),
    ("rabbit", "bunny"),
    ("refrigerator", "fridge"),
    ("reindeer", "caribou"),
    ("ring", "torus"),
    ("robot arm", "robotic arm", "manipulator"),
    ("rooster", "cockerel", "cock"),
    ("sailboat", "sailing boat"),
    ("santa claus", "father christmas"),
    ("scissors", "pair of scissors"),
    ("shrimp", "prawn"),
    ("sink", "washbasin"),
    ("sled", "sledge"),
    ("smiley", "smiley face"),
    ("sneaker", "sports shoe", "running shoe"),
    ("soccer ball", "football ball"),
    ("soft drink", "soda"),
    ("stapler", "staple gun"),
    ("stop sign", "red octagonal sign"),
    ("stove", "cooker"),
    ("street lamp", "lamppost"),
    ("stroller", "pushchair"),
    ("suitcase", "briefcase"),
    ("t-shirt", "tee shirt"),
    ("table tennis paddle", "ping-pong bat"),
    ("teddy bear", "stuffed bear"),
    ("telephone", "phone"),
    ("television", "tv", "television set"),
    ("thumbtack", "push pin", "drawing pin"),
    ("toy brick", "building brick"),
    ("traffic light", "stoplight"),
    ("tram", "streetcar"),
    ("trash can", "garbage can", "rubbish bin", "wastebasket"),
    ("trousers", "pants"),
    ("truck", "lorry"),
    ("turtle", "tortoise"),
    ("usb stick", "flash drive"),
    ("vinyl record", "gramophone record"),
    ("wild boar", "boar"),
    ("wildebeest", "gnu"),
    ("wrench", "spanner"),
)
"""Groups of names for one kind of thing; the first is the canonical one, used in evaluation."""

_GROUPS: Final = {name: group for group in SYNONYMS for name in group}


def canonical(name: str) -> str:
    """Return the name that evaluation uses for what `name` means."""
    return _GROUPS.get(name, (name,))[0]


def synonyms(name: str) -> tuple[str, ...]:
    """`name` and its synonyms, the canonical one first."""
    return _GROUPS.get(name, (name,))


def held_out(names: Iterable[str]) -> frozenset[str]:
    """Return those of `names` that never appear in training.

    A name is held out if its hash says so, or if it is a compound or a synonym of such a name:
    with "clock" goes "alarm clock", with "teapot" goes "tea pot".

    Args:
        names: The whole vocabulary of things; canonical names.
    """
    vocabulary = sorted(set(names))
    drawn = [name for name in vocabulary if unit_hash(name, _SALT) < HELD_OUT_SHARE]
    banned = [form for name in drawn for form in synonyms(name)]
    return frozenset(
        name
        for name in vocabulary
        if any(_contains(form, ban) for form in synonyms(name) for ban in banned)
    )


def _contains(name: str, part: str) -> bool:
    """Return whether the words of `part` occur in `name`, joined or apart, singular or plural."""
    words, part_words = _words(name), _words(part)
    span = len(part_words)
    apart = any(words[i : i + span] == part_words for i in range(len(words) - span + 1))
    return apart or "".join(words) == "".join(part_words)


def _words(name: str) -> list[str]:
    return [
        word[:-1] if word.endswith("s") and len(word) > 3 else word
        for word in name.lower().replace("-", " ").split()
    ]
