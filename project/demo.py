"""Made-up conversations of the last weeks, so that the pages have something to show."""

from typing import NamedTuple

WALK = """The circular path from Flåm is **eleven kilometres** and takes four hours. Three things to know:

1. The last bus back leaves at 17:40.
2. There is no water after the second cabin.
3. The path is steep for the first half hour, and gentle from there on.
"""
BREAD = """Then rye works best. For one loaf:

| | |
|---|---|
| rye flour | 400 g |
| water, lukewarm | 380 ml |
| sourdough | 80 g |
| salt | 9 g |

Stir, wait twelve hours, bake 50 minutes at 230 °C. No kneading, and **no nuts**, so that Mira can eat it too.
"""
CODE = """Count them with one query, grouped by day:

```python
Turn.objects.annotate(day=TruncDate("created_at")).values("day").annotate(turns=Count("pk"))
```

`TruncDate` goes by the current time zone, so set it first if your readers live elsewhere.
"""


class Talk(NamedTuple):
    """A conversation: its age in days, its title, and the messages of the user and the model in turn."""

    days_ago: int
    title: str
    messages: tuple[str, ...]


TALKS = (
    Talk(
        27,
        "A laptop for the train",
        (
            "My name is Ada, and I’m choosing between the Zephyr 14 and the Atlas 15 laptops.",
            "Hello Ada. The Zephyr 14 is the lighter one, the Atlas 15 types better. Where will you use it?",
            "On the train, mostly. I live in Bergen and work in Voss.",
            "Then weight and battery count most: the Zephyr 14, unless you type all the way.",
            "I do type all the way. Which of them has better reviews for that?",
            "For typing, the Atlas 15: its keyboard is what most reviews praise first.",
        ),
    ),
    Talk(
        20,
        "Mira’s visit",
        (
            "My sister Mira visits on Sunday. She is allergic to walnuts. What could I bake?",
            "Something without nuts, then. Do you want it sweet, or rather a bread?",
            "A bread. I prefer rye.",
            BREAD,
        ),
    ),
    Talk(
        12,
        "A walk above the fjord",
        (
            "Which walk from Flåm can we do in half a day?",
            WALK,
            "Good. Remind me: when does the last bus leave?",
            "At 17:40. Be at the stop ten minutes earlier, it is punctual.",
        ),
    ),
    Talk(
        5,
        "Turns per day",
        (
            "How do I count rows per day with Django’s ORM?",
            CODE,
            "And the standup? It moves to 9:45, and the demo is on Thursday.",
            "Noted: standup at 9:45 from now on, demo on Thursday.",
        ),
    ),
)
# `seed_demo` asks these after background work has learned from the conversations above.
QUESTIONS = (
    "Mira comes again. Which bread did I bake for her, and why that one?",
    "And when does the last bus from Flåm leave?",
)
