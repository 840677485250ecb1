"""Names that a person may use for one thing: they make "the ball" or "no cup" doubtful."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from xdecoder_rt.scenes.names import canonical

__all__ = ["alike", "covers"]

# fmt: off
_INCLUDES: Final[dict[str, frozenset[str]]] = {
    general: frozenset(name.strip() for name in special.split(","))
    for general, special in {
        "bird": "cock, cockerel, cormorant, crow, dove, duck, eagle, flamingo, hen, ostrich, owl, "
                "penguin, puffin, rooster, seagull, swan, turkey, rubber duck",
        "bug": "ant, bee, butterfly, damselfly, dragonfly, fly, grasshopper, ladybird, ladybug, "
               "mosquito, praying mantis, spider, wasp",
        "fish": "angelfish, cichlid, gourami, loach, seahorse, whale, dolphin",
        "dog": "beagle, puppy", "cat": "kitten, tiger, lion, cheetah",
        "cow": "bull, bison", "cattle": "bull, bison", "horse": "donkey",
        "monkey": "baboon, orangutan",
        "deer": "antelope, fawn", "sheep": "ram", "turtle": "tortoise",
        "man": "carpenter, chef, chemist, clown, doctor, father christmas, fireman, groom, hiker, "
               "mover, santa claus, scuba diver, skater, teacher, water skier",
        "woman": "ballerina, bride, dancer, doctor, fairy, mermaid, nurse, princess, skater, "
                 "teacher",
        "girl": "ballerina, baby, fairy, princess", "boy": "baby",
        "flower": "bouquet, cherry blossom, daffodil, daisy, lotus flower, magnolia, rose, tulips",
        "hat": "fedora, sombrero", "gun": "rifle", "boat": "trawler",
        "car": "hummer, off-road vehicle", "truck": "forklift",
        "box": "carton, crate, gift, present", "container": "crate, bucket, trash can",
        "robot": "gripper, manipulator, robotic arm", "robot arm": "gripper, manipulator",
        "robotic arm": "gripper, robot hand", "manipulator": "gripper, robot gripper, robot hand",
        "cup": "beer mug, coffee mug, mug, teacup, tumbler", "mug": "cup of coffee, teacup, cup",
        "pot": "flowerpot, teapot", "pan": "skillet", "bin": "wastebasket",
        "phone": "cellphone, telephone", "telephone": "cell phone, cellphone, mobile phone",
        "computer": "laptop, server", "camera": "camcorder, webcam", "guitar": "violin, cello",
        "lock": "padlock", "shoe": "sneaker", "knife": "scalpel", "sword": "katana, lightsaber",
        "block": "cube, dice, prism", "cube": "dice, die, block", "cone": "pyramid",
        "ball": "globe, sphere", "sphere": "globe", "ring": "torus, tape roll, washer",
        "gear": "cog, cogwheel", "bottle": "flask", "plant": "fern, cactus, tree",
        "nut": "washer", "bolt": "screw", "screw": "bolt", "can": "cylinder", "cylinder": "can",
    }.items()
}
_ALIKE: Final[tuple[frozenset[str], ...]] = tuple(
    frozenset(name.strip() for name in group.split(","))
    for group in (
        "cup, mug, glass, teacup, tumbler, beer mug, coffee mug, cup of coffee, wine glass",
        "bin, box, bucket, cabinet, cardboard box, carton, container, crate, open box, trash can, "
        "rubbish bin, garbage can, wastebasket, tray, milk carton, cereal box, juice box, basket, "
        "recycling bin, pot, flowerpot, barrel, vase, bowl, jar",
        "cube, block, wooden block, toy brick, dice, die, domino, prism, brick, toy blocks, "
        "ice cube, cheese, pyramid, rubik's cube",
        "ball, sphere, soccer ball, football ball, orange, apple, tomato, watermelon, peach, plum, "
        "globe, earth, planet, moon, beach ball, bowling ball, rugby ball, lemon, rock, egg, sun",
        "cylinder, can, tin can, soda can, pipe, battery, barrel, candle, spool, bottle, soda",
        "ring, torus, washer, nut, hex nut, tape roll, doughnut, gear, cog, cogwheel, spring, "
        "spool",
        "bolt, screw, hex bolt, screwdriver, pencil, pen, spring", "table, stool, chair",
        "monitor, display, computer screen, television, tv, laptop, notebook computer, keyboard",
        "robot, mobile robot, quadruped robot, robot arm, robotic arm, manipulator, gripper, "
        "robot gripper, robot hand", "plate, bowl, tray, frying pan, skillet, cutting board",
        "mobile phone, cell phone, cellphone, calculator, pda, book, ipod, telephone, phone",
        "cone, traffic cone, pyramid, funnel, party hat", "wrench, spanner, hammer, spoon, knife",
        "man, woman, boy, girl, baby, old man, doctor, teacher, nurse, chef, clown, dancer, hiker, "
        "skater, bride, groom, princess, fairy, mermaid, santa claus, snowman, alien, monster",
        "tree, fir tree, christmas tree, palm tree, orange tree, fern, potted plant, leaf, leaves",
        "star, snowflake, sun, throwing star, flower, daisy", "sign, stop sign, road sign, target",
        "pear, apple, lemon, orange, lime, tomato, peach, plum, cherry", "carrot, pencil, banana",
        "thumbtack, push pin, drawing pin", "smiley, smiley face, sun, face, head, mouth, lips",
        "toy car, mobile robot, car, truck, bus", "rubber duck, duck, bird, hen, swan, seagull",
    )
)
# fmt: on


@lru_cache(maxsize=65536)
def covers(general: str, special: str) -> bool:
    """Return whether any `special` is a `general`: "soccer ball" and "ball"."""
    if general == special or f" {general} " in f" {special} ":
        return True
    if canonical(general) == canonical(special):
        return True
    return special in _INCLUDES.get(general, ()) or canonical(special) in _INCLUDES.get(general, ())


@lru_cache(maxsize=65536)
def alike(name: str, other: str) -> bool:
    """Return whether a thing with either name could be taken for one with the other."""
    if covers(name, other) or covers(other, name) or name.split()[-1] == other.split()[-1]:
        return True
    return any(name in group and other in group for group in _ALIKE)
