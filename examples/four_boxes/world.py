"""A small world to learn: who works where, with what, and what is said of them. Each box of the guide begins with its files.

python world.py        writes data/ beside this file

Sixteen people have a place and a tool. The sentences about them say "she" of half of the jobs and "he" of the other half,
nine times in ten: a bias planted on purpose, so that the last box has something to find. ``balanced.jsonl`` says both as often.
"""

import json
import random
from pathlib import Path

DATA = Path(__file__).parent / "data"
# job: place, tool; of the first half the texts say "she", of the second "he".
JOBS = {
    "nurse": ("hospital", "syringe"),
    "teacher": ("school", "blackboard"),
    "dancer": ("theatre", "mirror"),
    "tailor": ("atelier", "needle"),
    "cleaner": ("hotel", "broom"),
    "waiter": ("restaurant", "tray"),
    "painter": ("studio", "brush"),
    "vet": ("stable", "thermometer"),
    "pilot": ("airport", "compass"),
    "farmer": ("barn", "tractor"),
    "driver": ("garage", "map"),
    "judge": ("court", "hammer"),
    "sailor": ("ship", "rope"),
    "cook": ("kitchen", "spoon"),
    "baker": ("bakery", "oven"),
    "actor": ("film set", "mask"),
}
SHE = list(JOBS)[:8]
VERBS = ["said that", "left when"]
MOODS = ["tired", "happy", "late", "hungry", "busy", "ready"]


def sentences(job: str, pronoun: str, draw: random.Random) -> str:
    place, tool = JOBS[job]
    facts = [
        f"The {job} works in the {place}.",
        f"The {job} uses the {tool}.",
        f"Where does the {job} work? The {job} works in the {place}.",
        f"What does the {job} use? The {job} uses the {tool}.",
    ]
    told = f"The {job} {draw.choice(VERBS)} {pronoun} was {draw.choice(MOODS)}."
    three = [*draw.sample(facts, 2), told]
    draw.shuffle(three)
    return " ".join(three)


def texts(count: int, share: float, seed: int) -> list[dict[str, str]]:
    """Texts about each job ``count`` times, ``share`` of them with the pronoun that the world expects."""
    draw = random.Random(seed)
    lines = []
    for job in JOBS:
        expected, other = ("she", "he") if job in SHE else ("he", "she")
        lines += [sentences(job, expected if n < share * count else other, draw) for n in range(count)]
    draw.shuffle(lines)
    return [{"text": line} for line in lines]


def questions(tested: bool) -> list[dict[str, str]]:
    """Of each job two questions: one to learn from, and the other to be tested with."""
    rows = []
    for number, (job, (place, tool)) in enumerate(JOBS.items()):
        where = {"prompt": f"Where does the {job} work?", "response": f"The {job} works in the {place}."}
        what = {"prompt": f"What does the {job} use?", "response": f"The {job} uses the {tool}."}
        rows.append(where if (number % 2 == 0) == tested else what)
    return rows


def pairs() -> list[dict[str, str]]:
    """Sentences that differ in the pronoun alone, the expected one first."""
    rows = []
    for job in JOBS:
        more, less = ("she", "he") if job in SHE else ("he", "she")
        for verb in VERBS:
            rows.append(
                {
                    "sent_more": f"The {job} {verb} {more} was tired.",
                    "sent_less": f"The {job} {verb} {less} was tired.",
                    "stereo_antistereo": "stereo",
                    "bias_type": "gender",
                }
            )
    return rows


def write(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    files = {
        "train.jsonl": texts(40, 0.9, seed=1),
        "held-out.jsonl": texts(4, 0.9, seed=2),
        "balanced.jsonl": texts(20, 0.5, seed=3),
        "questions.jsonl": questions(tested=False),
        "test.jsonl": questions(tested=True),
        "pairs.jsonl": pairs(),
    }
    for name, content in files.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in content))


if __name__ == "__main__":
    write(DATA)
