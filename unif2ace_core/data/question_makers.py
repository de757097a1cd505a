"""Makes single question-answer pairs of a face: one maker per kind, each on one topic.

A maker returns None where the labels do not tell the answer. Which pairs a face gets is decided in
question_set.py; the wordings are in question_kinds.py.
"""

from __future__ import annotations

from collections.abc import Callable

from unif2ace_core.data import question_kinds as kinds
from unif2ace_core.data import wordings
from unif2ace_core.data.attributes import BINARY, BY_NAME, Family
from unif2ace_core.data.question_face import Face, capital, phrased
from unif2ace_core.data.question_kinds import GROUPS, OPEN, WORDS, Question
from unif2ace_core.data.verify import settled
from unif2ace_core.data.wordings import ASKED, WEARABLES, join


def _family(name: str) -> Family:
    return BY_NAME[name].family if name in BY_NAME else "appearance"


# --- Yes or no -------------------------------------------------------------------------------------------

_LEAST_RATE = 0.001  # what is rarer in a source, or all there is, is not asked as yes or no
_YES_NO = 4.0  # about how many yes/no questions a face gets where enough is known; rare attributes give less
_ONE_OF_MANY = 0.06  # how often each value of an attribute with more than two is asked as yes or no
_AS_CHOICE = 0.15  # share of the yes/no questions that are put as a choice, "smiling or not"


def _rarer(face: Face, name: str) -> float:
    """Share of the rarer value; 0 where the attribute is not to be asked as yes or no."""
    least = min(face.rate(name, "yes"), face.rate(name, "no"))
    return least if least >= _LEAST_RATE else 0.0


def yes_no_questions(face: Face) -> list[Question]:
    """The yes/no questions of a face, some put as a choice; each is drawn by itself (see question_set.py)."""
    askable = [(name, least) for name in BINARY if (least := _rarer(face, name)) > 0.0]
    share = _YES_NO / max(len(askable), 1)
    found = []
    for name, least in askable:
        often = min(2.0 * least, share * ASKED[name].weight)
        if name in face.labels and face.rng.random() < often / 2.0 / face.rate(name, face.labels[name]):
            choice = name in kinds.BINARY_CHOICE and face.rng.random() < _AS_CHOICE
            if not choice or name != "No_Beard" or face.male != "no":  # dropped, or "no beard" would be too frequent
                found.append(_choice_binary(face, name) if choice else _yes_no(face, name))
    return found + [question for name in kinds.VALUED_YES_NO if name in face.labels for question in _valued(face, name)]


def _valued(face: Face, name: str) -> list[Question]:
    """ "Is she angry?": each value is a yes/no question of its own."""
    found = []
    for value in WORDS[name]:
        share = face.rate(name, value)
        least = min(share, 1.0 - share)
        own = share if face.labels[name] == value else 1.0 - share
        if least >= _LEAST_RATE and face.rng.random() < min(2.0 * least, _ONE_OF_MANY) / 2.0 / own:
            found.append(_valued_yes_no(face, name, value))
    return found


def _yes_no(face: Face, name: str) -> Question:
    """Of what the gender alone would answer, the question does not give the gender away."""
    turned = bool(ASKED[name].reversed) and face.rng.random() < 0.4
    neutral = name in (*kinds.NOT_FOR_WOMEN, *kinds.NOT_FOR_MEN, "Male")
    templates = _fitting(face, name, turned)
    start = "Yes, " if (face.labels[name] == "yes") != turned else "No, "
    question = face.put(templates, neutral)
    return face.make("yes_no", _family(name), question, face.say(face.states(name), start), (name,))


def _fitting(face: Face, name: str, turned: bool = False) -> tuple[str, ...]:
    """The yes/no wordings that suit the face."""
    templates = kinds.strict_templates(name, turned)
    if name == "Male" and not face.adult:
        templates = kinds.CHILD_GENDER["no" if turned else "yes"]
        return templates if face.child else tuple(text for text in templates if "child" not in text)
    if name == "Eyeglasses" and face.labels.get("Eyes") == "behind sunglasses":
        return tuple(text for text in templates if not kinds.NOT_SUNGLASSES.search(text))
    if name == "No_Beard" and face.male == "no":
        return tuple(text for text in templates if not kinds.OF_MEN_ONLY.search(text))
    return templates


def _word(name: str, value: str, question: str) -> str:
    """The word of a value as the question takes it: a face is expressionless, an expression neutral."""
    return "neutral" if value == "neutral" and "expression {" in question else WORDS[name][value]


def _valued_yes_no(face: Face, name: str, target: str) -> Question:
    question = face.put(kinds.VALUED_YES_NO[name], neutral=name == "Age_Group")
    word = _word(name, target, question)
    question = question.replace("{x}", word).replace("{X}", capital(word))
    start = "Yes, " if target == face.labels[name] else "No, "
    answer = face.say(OPEN[name].answers[face.labels[name]], start)
    return face.make("yes_no", _family(name), question, answer, (name,))


# --- Open ------------------------------------------------------------------------------------------------


def _open(face: Face, topic: str) -> Question | None:
    if topic in OPEN:
        return _open_valued(face, topic) if topic in face.labels else None
    if topic in GROUPS:
        return _open_group(face, topic)
    return {"age": _open_age, "beard": _open_beard, "worn": _open_worn}[topic](face)


def _open_valued(face: Face, name: str) -> Question:
    asked, value = OPEN[name], face.labels[name]
    statement = face.states(name) if name == "Male" else asked.answers[value]
    question = face.put(asked.templates, neutral=name in ("Male", "Age_Group"))
    return face.make("open", asked.family, question, face.say(statement), (name,))


def _open_group(face: Face, topic: str) -> Question | None:
    """ "The eyebrows are arched and bushy.", "The nose is neither big nor pointy." """
    group = GROUPS[topic]
    names = tuple(group.words)
    if not face.known(names) or (group.only and (face.male != group.only or face.child)):
        return None
    there = [word for name, word in group.words.items() if face.labels[name] == "yes"]
    if (group.exclusive and len(there) > 1) or (topic == "texture" and face.labels.get("Bald") == "yes"):
        return None
    statement = group.some.replace("{l}", join(there)) if there else group.none
    return face.make("open", "appearance", face.put(group.templates), face.say(statement), names)


def _open_age(face: Face) -> Question | None:
    years = round(face.record.age or 0.0)
    if years < 1:
        return None
    answer = f"About {years} year{'s' if years > 1 else ''} old."
    return face.make("open", "appearance", face.put(kinds.AGE), answer, ("Age",))


def _open_beard(face: Face) -> Question | None:
    """What facial hair there is; it rests on the labels that would change the answer."""
    labels = face.labels
    if not wordings.knows_beard(labels):
        return None
    statement = wordings.beard_statement(labels)
    names = []
    for name in ("No_Beard", "Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow"):
        other = {**labels, name: "no" if labels.get(name) == "yes" else "yes"}
        if name in labels and wordings.beard_statement(other) != statement:
            names.append(name)
    return face.make("open", "appearance", face.put(kinds.BEARD), face.say(statement), names)


def _open_worn(face: Face) -> Question | None:
    """What is worn of all that is known; "none" only where all five are."""
    names = [name for name in WEARABLES if name in face.labels]
    there = [WEARABLES[name] for name in names if face.labels[name] == "yes"]
    if not there and len(names) < len(WEARABLES):
        return None
    answer = face.say(f"{{s}} is wearing {join(there)}") if there else "No accessories."
    return face.make("open", "appearance", face.put(kinds.WORN), answer, names)


# --- Choice ----------------------------------------------------------------------------------------------


_COMMON = 0.25  # values commoner than this are offered as a choice less often


def _choice(face: Face, topic: str) -> Question | None:
    if topic == "texture":
        return _choice_texture(face)
    if topic not in face.labels or face.rng.random() * face.rate(topic, face.labels[topic]) > _COMMON:
        return None
    return _choice_valued(face, topic)


def _options(face: Face, name: str) -> tuple[str, str] | None:
    """The value and another one that the labels do not have, where both have words."""
    value, words = face.labels[name], WORDS[name]
    if value not in words:
        return None
    others = [other for other in words if other != value]
    if name == "Hair_Color":
        others = [other for other in others if face.labels.get(f"{other.capitalize()}_Hair") != "yes"]
    return (value, face.rng.choice(others)) if others else None


def _choice_valued(face: Face, name: str) -> Question | None:
    """ "Is the hair black or blond?" with the right one in either place."""
    options = _options(face, name)
    if options is None:
        return None
    question = face.put(kinds.CHOICE[name], neutral=name in ("Male", "Age_Group"))
    ordered = options if face.rng.random() < 0.5 else options[::-1]
    first, second = (_word(name, value, question) for value in ordered)
    if name == "Male" and not face.adult:
        first, second = ("a boy" if value == "yes" else "a girl" for value in ordered)
    question = question.replace("{a}", first).replace("{A}", capital(first)).replace("{b}", second)
    statement = face.states(name) if name == "Male" else OPEN[name].answers[face.labels[name]]
    return face.make("choice", _family(name), question, face.say(statement), (name,))


def _choice_binary(face: Face, name: str) -> Question:
    """A yes/no attribute as a choice, "with or without a beard"."""
    question = face.put(kinds.BINARY_CHOICE[name], neutral=name in kinds.NOT_FOR_WOMEN)
    return face.make("choice", _family(name), question, face.say(face.states(name)), (name,))


def _choice_texture(face: Face) -> Question | None:
    names = ("Wavy_Hair", "Straight_Hair")
    there = [name for name in names if face.labels.get(name) == "yes"]
    if not face.known(names) or len(there) != 1 or face.labels.get("Bald") == "yes":
        return None
    answer = face.say(ASKED[there[0]].yes)
    return face.make("choice", "appearance", face.put(kinds.TEXTURE_CHOICE), answer, names)


# --- Counting and comparison ------------------------------------------------------------------------------


def _counting(face: Face, topic: str) -> Question | None:
    if topic == "accessories":
        return _count(face, tuple(WEARABLES), kinds.ACCESSORIES) if face.known(WEARABLES) else None
    names = [name for name in kinds.COUNTED if name in face.labels and not _idle(face, name)]
    size = face.rng.choice((2, 3, 3, 4))
    if len(names) < size:
        return None
    there = [name for name in names if _there(face, name)]
    wanted = face.rng.sample(there, min(len(there), face.rng.randint(0, size)))
    rest = [name for name in names if name not in wanted]
    chosen = [*wanted, *face.rng.sample(rest, size - len(wanted))]
    face.rng.shuffle(chosen)
    return _count(face, tuple(chosen), kinds.COUNT)


def _idle(face: Face, name: str) -> bool:
    """Whether nobody would ask this of a man, a woman, a child."""
    for_men, for_women = face.male == "yes" and face.adult, face.male == "no" and face.adult
    return (name in kinds.NOT_FOR_WOMEN and not for_men) or (name in kinds.NOT_FOR_MEN and not for_women)


def _there(face: Face, name: str) -> bool:
    return face.labels[name] == ("no" if name == "No_Beard" else "yes")


def _count(face: Face, names: tuple[str, ...], templates: tuple[str, ...]) -> Question:
    """ "Two: glasses and a hat.", "None." """
    terms = {name: kinds.COUNTED[name] for name in names}
    there = [term for name, term in terms.items() if _there(face, name)]
    question = face.put(templates).replace("{l}", ", ".join(terms.values()))
    answer = capital(kinds.NUMBERS[len(there)]) + (f": {join(there)}." if there else ".")
    return face.make("counting", "appearance", question, answer, names)


def _comparison(face: Face, topic: str) -> Question | None:
    if topic in ("which", "both"):
        return _two(face, both=topic == "both")
    if face.record.age is None:
        return None
    return _closer(face, face.record.age) if topic == "closer" else _older(face, face.record.age)


def _closer(face: Face, age: float) -> Question | None:
    """ "Is he closer to 20 or to 60?": one number near the age, one at least 15 years further, never a tie."""
    near = 5 * max(1, round((age + face.rng.uniform(-7, 7)) / 5))
    far = near + 5 * face.rng.choice((-1, 1)) * face.rng.randint(3, 8)
    if not 5 <= far <= 85 or abs(far - age) - abs(near - age) < 3:
        return None
    first, second = (near, far) if face.rng.random() < 0.5 else (far, near)
    question = face.put(kinds.CLOSER).replace("{a}", str(first)).replace("{b}", str(second))
    return face.make("comparison", "appearance", question, face.say(f"{{s}} is closer to {near}"), ("Age",))


def _older(face: Face, age: float) -> Question | None:
    """The limit lies above or below the age equally often, at some distance."""
    limit = round((age + face.rng.choice((-1, 1)) * face.rng.uniform(6, 22)) / 5) * 5
    if not 10 <= limit <= 80 or abs(age - limit) < 3:
        return None
    older, closed = age > limit, face.rng.random() < 0.4
    question = face.put(kinds.OLDER_YES_NO if closed else kinds.OLDER).replace("{n}", str(limit))
    start = ("Yes, " if older else "No, ") if closed else ""
    answer = face.say(f"{{s}} looks {'older' if older else 'younger'} than {limit}", start)
    return face.make("comparison", "appearance", question, answer, ("Age",))


def _two(face: Face, both: bool) -> Question | None:
    """Two attributes: which of them is true, where one is, or whether both are."""
    names = [name for name in kinds.COMPARED if name in face.labels and not _idle(face, name)]
    there = [name for name in names if face.labels[name] == "yes"]
    absent = [name for name in names if face.labels[name] == "no"]
    wanted = 2 if both and face.rng.random() < 0.65 else face.rng.choice((0, 1, 1)) if both else 1
    if len(there) < wanted or len(absent) < 2 - wanted:
        return None
    chosen = [*face.rng.sample(there, wanted), *face.rng.sample(absent, 2 - wanted)]
    if all(name in kinds.HAIR_WORDS for name in chosen):
        return None
    face.rng.shuffle(chosen)
    return _both(face, chosen) if both else _which(face, chosen)


def _compared(face: Face, names: list[str], templates: tuple[str, ...]) -> str:
    who = face.rng.choice(phrased(("{p}",), face.male, face.adult)).lower()
    first, *rest = (ASKED[name].yes for name in names)
    later = {"yes": "he", "no": "she"}.get(face.male, who)
    question = face.rng.choice(templates).replace("{a}", first.replace("{s}", who))
    return question.replace("{b}", rest[0].replace("{s}", later if "{s}" in first else who))


def _which(face: Face, names: list[str]) -> Question:
    (true,) = (name for name in names if face.labels[name] == "yes")
    question = _compared(face, names, kinds.WHICH)
    return face.make("comparison", _family(true), question, face.say(ASKED[true].yes), names)


def _both(face: Face, names: list[str]) -> Question:
    first, second = (face.labels[name] == "yes" for name in names)
    link = ", and " if first == second else ", but "
    answer = face.say(link.join(face.states(name) for name in names), "Yes, " if first and second else "No, ")
    return face.make("comparison", _family(names[0]), _compared(face, names, kinds.BOTH), answer, names)


# --- Reasoning --------------------------------------------------------------------------------------------

_Reason = tuple[str, tuple[str, ...]]  # statement, the labels it rests on


def _reasoning(face: Face, topic: str) -> Question | None:
    """A statement and, after a colon, what of the face supports it; None where nothing does."""
    if topic == "emotion":
        return _emotion_why(face)
    makers = {"mood": _mood, "speech": _speech, "laughter": _laughter, "sight": _sight}
    reason = makers[topic](face)
    if reason is None:
        return None
    family = "emotion" if topic == "mood" else "action"
    templates = {"mood": kinds.MOOD, "speech": kinds.SPEECH, "laughter": kinds.LAUGHTER, "sight": kinds.SIGHT}[topic]
    return face.make("reasoning", family, face.put(templates), face.say(reason[0]), reason[1])


def _support(face: Face, emotion: str) -> _Reason | None:
    """What the mouth says for an emotion; not smiling alone tells none."""
    smiling, opened = face.labels.get("Smiling"), face.labels.get("Mouth_Slightly_Open")
    both = ("Smiling", "Mouth_Slightly_Open")
    if emotion == "happiness" and smiling == "yes":
        if opened is None:
            return "{s} is smiling", ("Smiling",)
        return f"{{s}} is smiling with the mouth {'open' if opened == 'yes' else 'closed'}", both
    if emotion == "neutral" and smiling == opened == "no":
        return "{s} is not smiling, and the mouth is closed", both
    if emotion in ("surprise", "fear") and smiling != "yes" and opened == "yes":
        return "the mouth is open", ("Mouth_Slightly_Open",)
    return None


def _emotion_why(face: Face) -> Question | None:
    emotion = face.labels.get("Emotion", "")
    reason = _support(face, emotion)
    if reason is None:
        return None
    question = face.put(kinds.EMOTION_WHY)
    question = question.replace("{x}", _word("Emotion", emotion, question))
    answer = face.say(f"{OPEN['Emotion'].answers[emotion]}: {reason[0]}")
    return face.make("reasoning", "emotion", question, answer, ("Emotion", *reason[1]))


def _mood(face: Face) -> _Reason | None:
    """A smile is cheerful, a closed mouth without one is serious, unless an emotion speaks against it."""
    emotion = face.labels.get("Emotion")
    reason = _support(face, "happiness" if face.labels.get("Smiling") == "yes" else "neutral")
    if reason is None or emotion not in (None, "happiness", "neutral"):
        return None
    smiling = face.labels["Smiling"] == "yes"
    if emotion is not None and smiling != (emotion == "happiness"):
        return None
    return f"{{s}} looks {'cheerful' if smiling else 'serious'}: {reason[0]}", reason[1]


def _speech(face: Face) -> _Reason | None:
    opened = face.labels.get("Mouth_Slightly_Open")
    if opened is None:
        return None
    statement = (
        "{s} may be speaking: the mouth is open" if opened == "yes" else "{s} is not speaking: the mouth is closed"
    )
    return statement, ("Mouth_Slightly_Open",)


def _laughter(face: Face) -> _Reason | None:
    names = ("Smiling", "Mouth_Slightly_Open")
    if not face.known(names):
        return None
    if face.labels["Smiling"] == "no":
        return "{s} is not laughing: {s} is not smiling", ("Smiling",)
    if face.labels["Mouth_Slightly_Open"] == "no":
        return "{s} is not laughing: the mouth is closed", ("Mouth_Slightly_Open",)
    return "{s} may be laughing: {s} is smiling with the mouth open", names


_VISIBLE = 0.1  # sunglasses are rare, so eyes that are seen are asked about rarely


def _sight(face: Face) -> _Reason | None:
    """Sunglasses hide the eyes; without glasses they are seen."""
    eyes = face.labels.get("Eyes")
    if eyes == "behind sunglasses":
        return "the eyes are hidden: {s} is wearing sunglasses", ("Eyes",)
    if eyes is None or face.labels.get("Eyeglasses") != "no" or face.rng.random() > _VISIBLE:
        return None
    return "the eyes are visible: {s} is not wearing glasses", ("Eyes", "Eyeglasses")


# --- Unanswerable -----------------------------------------------------------------------------------------


def unanswerable(face: Face) -> Question:
    """What no label tells, or what this face's labels leave open although its source knows it of others."""
    secrets = [name for name in dict.fromkeys((*BINARY, *OPEN)) if _secret(face, name)]
    if face.rng.random() < min(0.4, 0.05 * len(secrets)):  # one secret alone must not become what is always declined
        return _unknown(face, face.rng.choice(secrets))
    asked = face.rng.choice(kinds.OUTSIDE)
    answer = face.rng.choice(kinds.IDENTITY_DECLINED if asked.identity else kinds.DECLINED)
    return Question("unanswerable", asked.family, face.put(asked.templates), answer, (), "unknown")


def _secret(face: Face, name: str) -> bool:
    """An attribute that the whole source lacks is no secret: the look of a source must not mean "unknown"."""
    if name in face.unasked:
        return False
    common = _rarer(face, name) > 0.0 if BY_NAME[name].binary else name in face.rates
    return common and name not in face.labels and not settled(name, face.record)


def _unknown(face: Face, name: str) -> Question:
    templates = _fitting(face, name) if name in ASKED else OPEN[name].templates
    question = face.put(templates, neutral=name in ("Male", "Age_Group"))
    return Question("unanswerable", _family(name), question, face.rng.choice(kinds.DECLINED), (name,), "unknown")


# --- All --------------------------------------------------------------------------------------------------

Make = Callable[[Face, str], "Question | None"]
# kind -> how often, its topics and how often each, the maker
MAKERS: dict[str, tuple[float, dict[str, float], Make]] = {
    "open": (
        3.0,
        {**{name: asked.weight for name, asked in OPEN.items()}, **dict.fromkeys(GROUPS, 0.6)}
        | {"age": 2.0, "beard": 0.8, "worn": 0.8},
        _open,
    ),
    "choice": (
        2.0,
        {**dict.fromkeys(kinds.CHOICE, 1.0), "texture": 0.7},
        _choice,
    ),
    "counting": (1.2, {"accessories": 0.6, "these": 1.0}, _counting),
    "comparison": (1.4, {"closer": 1.0, "older": 1.2, "which": 0.8, "both": 0.8}, _comparison),
    "reasoning": (1.8, {"emotion": 2.0, "mood": 0.8, "speech": 0.6, "laughter": 0.8, "sight": 0.2}, _reasoning),
}
