"""What Emoji World is made of: the objects, backgrounds and motions, each known by its index."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ObjectKind:
    """One thing of the world: its canonical name, its emoji and the other names it answers to.

    `faces_left` says that the bitmap looks to the left, so that it is mirrored when it travels right.
    """

    name: str
    emoji: str
    category: str
    faces_left: bool = False
    aliases: tuple[str, ...] = field(default=())

    @property
    def article(self) -> str:
        """The indefinite article of the canonical name."""
        return indefinite_article(self.name)


def indefinite_article(name: str) -> str:
    """Return "an" before a vowel letter, "a" otherwise (no name of the world is an exception)."""
    return "an" if name[0] in "aeiou" else "a"


def _kinds(category: str, faces_left: bool, rows: str) -> list[ObjectKind]:
    """Read `emoji name | alias | alias` rows; a row that starts with "=" faces the viewer."""
    kinds = []
    for row in rows.strip().splitlines():
        head, *aliases = [part.strip() for part in row.split("|")]
        emoji, name = head.lstrip("=").strip().split(" ", 1)
        kinds.append(
            ObjectKind(name, emoji, category, faces_left and not head.startswith("="), tuple(aliases))
        )
    return kinds


OBJECTS: tuple[ObjectKind, ...] = tuple(
    _kinds(
        "animal",
        True,
        """
        🐈 cat | kitten
        🐕 dog | puppy
        🐎 horse
        🐘 elephant
        🐖 pig
        🐇 rabbit | bunny
        🐢 turtle
        🐠 fish
        🐳 whale
        🐌 snail
        =🐙 octopus
        =🦋 butterfly
        =🐞 ladybug
        =🐸 frog
        =🐧 penguin
        =🦉 owl
        =🦀 crab
        =🦊 fox
        =🐼 panda
    """,
    )
    + _kinds(
        "vehicle",
        True,
        """
        🚗 red car
        🚙 blue car
        🚌 bus
        🚜 tractor
        🚲 bicycle | bike
        🚁 helicopter
        🚂 train
        =🚀 rocket
        =✈ airplane | plane
        =⛵ sailboat | boat
    """,
    )
    + _kinds(
        "food",
        False,
        """
        🍎 red apple
        🍏 green apple
        🍌 banana
        🍓 strawberry
        🍕 pizza | slice of pizza
        🍔 hamburger | burger
        🍦 ice cream
        🍩 donut
        ☕ cup of coffee | coffee | café
        🎂 cake
    """,
    )
    + _kinds(
        "plant",
        False,
        """
        🌸 cherry blossom | cherry blossoms | cherry tree | cherry trees
        🌻 sunflower
        🌵 cactus
        🌴 palm tree
        🌷 tulip
        🍄 mushroom
    """,
    )
    + _kinds(
        "thing",
        False,
        """
        🎈 balloon
        🎸 guitar
        ⚽ football
        🏠 house
        🎁 gift | present
        🔔 bell
        ⭐ star
        ☂ umbrella
        🔑 key
        ❤ red heart | heart
    """,
    )
)

BACKGROUNDS: tuple[str, ...] = ("day", "sunset", "night", "snow", "sea", "meadow")
MOTIONS: tuple[str, ...] = ("left", "right", "up", "down", "growing", "shrinking", "still")
LEFT, RIGHT, UP, DOWN, GROWING, SHRINKING, STILL = range(len(MOTIONS))


def kind_of(name: str) -> int:
    """Return the index of the object with this canonical name. Raises KeyError for any other name."""
    return _INDEX[name]


_INDEX = {kind.name: index for index, kind in enumerate(OBJECTS)}
