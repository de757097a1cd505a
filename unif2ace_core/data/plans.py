"""Sentence plans and synonyms of the data factory's captions, all as data.

A plan is one sentence. Its slots are

    {s} {p} {o}     the person: he, his, him; the woman, her, her; they, their, them
    {has} {wears}   a verb that follows {s}, put into the plural after "they"
    {are:features}  a verb that follows the topic `features`, put into the singular where that is one thing
    {who}           the person with article and age, in openings only
    {hair} ...      a topic, see `SLOTS`: what is said there, as a list, a denial, a clause

A plan can be used where every topic it names is still to be told; the first letter is capitalised later.
"""

from __future__ import annotations

Pair = tuple[str, str]  # attribute, value

# slot -> (topic, form). Forms: and "a, b, and c"; no "no a, b, or c"; or "a, b, or c"; is "wavy and brown" (of
# the hair); text as it is; finite "is smiling"; participle "smiling"; noun "a happy look".
SLOTS: dict[str, tuple[str, str]] = {
    "hair": ("hair", "and"),
    "hair_is": ("hair", "is"),
    "features": ("features", "and"),
    "beard": ("beard", "and"),
    "worn": ("worn", "and"),
    "state": ("state", "and"),
    "smile": ("smile", "finite"),
    "smiling": ("smile", "participle"),
    "feeling": ("feeling", "finite"),
    "mood": ("feeling", "noun"),
    "pose": ("pose", "finite"),
    "posing": ("pose", "participle"),
    "eyes": ("eyes", "text"),
    "no_worn": ("lack_worn", "no"),
    "or_worn": ("lack_worn", "or"),
    "no_beard": ("lack_beard", "no"),
    "or_beard": ("lack_beard", "or"),
    "no_marks": ("lack_marks", "no"),
    "or_marks": ("lack_marks", "or"),
    "denied": ("denied", "text"),
    "photo": ("photo", "text"),
}

# --- First sentences --------------------------------------------------------------------------------------

OPENINGS: tuple[str, ...] = (
    # the person alone
    "this is {who}",
    "this is a portrait of {who}",
    "this is a photo of {who}",
    "this is a close-up of {who}",
    "the photo shows {who}",
    "the picture shows {who}",
    "the image shows the face of {who}",
    "the portrait shows {who}",
    "here we see {who}",
    "we see {who} in this portrait",
    "in this photo we see {who}",
    "the person in the photo is {who}",
    "the face belongs to {who}",
    "{who} is shown in this portrait",
    "{who} can be seen in the picture",
    # with the hair
    "this is {who} with {hair}",
    "this is a portrait of {who} with {hair}",
    "the photo shows {who} with {hair}",
    "the picture shows {who} who has {hair}",
    "{who} with {hair} can be seen in this photo",
    "{who} with {hair} fills the frame",
    "here is {who} with {hair}",
    "a close-up shows {who} with {hair}",
    "in this picture we see {who} with {hair}",
    # with the face
    "this is {who} with {features}",
    "the photo shows {who} with {features}",
    "{who} with {features} is shown here",
    "the portrait shows {who} who has {features}",
    "here we see {who} with {features}",
    # with the smile, the mood or the pose
    "this is {who}, {smiling}",
    "the photo shows {who}, {smiling}",
    "{who} is seen here, {smiling}",
    "in this portrait we meet {who}, {smiling}",
    "this is {who} with {mood}",
    "the picture shows {who} with {mood}",
    "{who} with {mood} is shown in this photo",
    "this is {who}, {posing}",
    "the photo shows {who}, {posing}",
    "{who} is pictured here, {posing}",
    # with what is worn
    "this is {who} wearing {worn}",
    "the photo shows {who} wearing {worn}",
    "{who} wearing {worn} is shown in this portrait",
    "the picture is of {who} who wears {worn}",
    "here we see {who} wearing {worn}",
    # with a beard
    "this is {who} with {beard}",
    "the photo shows {who} with {beard}",
    "{who} with {beard} is seen in this picture",
    # with two topics
    "this is {who} with {hair}, {smiling}",
    "the photo shows {who} with {hair}, {smiling}",
    "this is {who} with {hair}, {posing}",
    "the portrait shows {who} with {hair}, {posing}",
    "this is {who} with {hair}, wearing {worn}",
    "the photo shows {who} with {hair}, wearing {worn}",
    "{who} with {hair} is wearing {worn}",
    "the picture shows {who} with {features}, {smiling}",
    "this is {who} with {features}, wearing {worn}",
    "this is {who} with {mood}, {posing}",
    "this is {who} wearing {worn}, {posing}",
)

# --- Sentences about one topic ----------------------------------------------------------------------------

_HAIR = (
    "{s} {has} {hair}",
    "{p} face is framed by {hair}",
    "{hair} {frame:hair} {p} face",
    "one notices {hair}",
    "we can see {hair}",
    "seen up close, the hair is {hair_is}",
    "{p} hair is {hair_is}",
    "{p} hair looks {hair_is}",
    "the hair is {hair_is}",
    "{s} {has} hair that is {hair_is}",
    "the picture shows {hair}",
    "around the face there {are:hair} {hair}",
    "the upper part of the picture shows {hair}",
)
_FEATURES = (
    "{s} {has} {features}",
    "{p} face shows {features}",
    "{p} face has {features}",
    "{p} features include {features}",
    "among {p} features {are:features} {features}",
    "{features} {stand:features} out in {p} face",
    "{features} {shape:features} {p} face",
    "{features} {mark:features} {p} face",
    "{features} {give:features} {p} face its character",
    "{p} face is marked by {features}",
    "{p} face is shaped by {features}",
    "looking closer, we see {features}",
    "one can see {features}",
    "one also notices {features}",
    "there {are:features} {features} to be seen",
    "{s} {shows} {features}",
    "what stands out {are:features} {features}",
    "{p} face is notable for {features}",
    "a closer look reveals {features}",
    "in {p} face we find {features}",
    "typical of {p} face {are:features} {features}",
    "{features} {belong:features} to {p} face as well",
    "{features} {are:features} easy to see",
    "{features} {are:features} visible too",
    "the viewer sees {features}",
)
_BEARD = (
    "{s} {has} {beard}",
    "{s} {sports} {beard}",
    "{p} face shows {beard}",
    "the lower half of {p} face shows {beard}",
    "{beard} {cover:beard} part of {p} face",
    "{beard} {frame:beard} {p} chin",
    "as for facial growth, there {are:beard} {beard}",
    "one notices {beard}",
    "{beard} {can:beard} be seen",
    "{beard} {are:beard} visible on {p} face",
    "{s} {has} grown {beard}",
)
_WORN = (
    "{s} {wears} {worn}",
    "{s} {is} wearing {worn}",
    "{s} {has} {worn} on",
    "{s} {is} seen wearing {worn}",
    "we see {o} wearing {worn}",
    "{s} {has} chosen to wear {worn}",
    "for the photo {s} {wears} {worn}",
    "{worn} {complete:worn} the look",
    "{worn} {round:worn} off {p} appearance",
    "{worn} {are:worn} part of {p} look",
    "{worn} {add:worn} to {p} appearance",
    "{worn} {can:worn} be seen as well",
    "{p} look is completed by {worn}",
    "{p} look includes {worn}",
    "worn in the photo {are:worn} {worn}",
    "as for what is worn, we see {worn}",
    "{s} {appears} in the photo wearing {worn}",
    "also visible {are:worn} {worn}",
)
_STATE = (
    "{s} {is} {state}",
    "{s} {appears} to be {state}",
    "as one can see, {s} {is} {state}",
    "it is plain to see that {s} {is} {state}",
    "we see that {s} {is} {state}",
    "{s} {is} shown {state}",
    "in this picture {s} {is} {state}",
    "note that {s} {is} {state}",
)
_SMILE = (
    "{s} {smile}",
    "in this photo {s} {smile}",
    "at this moment {s} {smile}",
    "in front of the camera {s} {smile}",
    "we see that {s} {smile}",
    "in the picture {s} {smile}",
    "as the photo is taken, {s} {smile}",
    "one can see that {s} {smile}",
    "here {s} {smile}",
    "the camera catches {o} {smiling}",
    "{s} {is} seen {smiling}",
    "{s} {is} shown {smiling}",
    "we see {o} {smiling}",
    "{s} {is} captured {smiling}",
)
_FEELING = (
    "{s} {feeling}",
    "in this photo {s} {feeling}",
    "on the whole {s} {feeling}",
    "at this moment {s} {feeling}",
    "to the viewer {s} {feeling}",
    "one would say that {s} {feeling}",
    "it seems that {s} {feeling}",
    "{p} face has {mood}",
    "{p} face shows {mood}",
    "{p} face carries {mood}",
    "there is {mood} on {p} face",
    "{s} {wears} {mood}",
    "the photo captures {mood}",
    "the viewer is met by {mood}",
    "{mood} can be read in {p} face",
)
_POSE = (
    "{s} {pose}",
    "in this photo {s} {pose}",
    "for the picture {s} {pose}",
    "at this moment {s} {pose}",
    "in the frame {s} {pose}",
    "we see that {s} {pose}",
    "{s} {is} shown {posing}",
    "{s} {is} seen {posing}",
    "we see {o} {posing}",
    "the photo has caught {o} {posing}",
    "the picture was taken while {s} {pose}",
    "the picture captures {o} {posing}",
)
_EYES = (
    "{p} eyes are {eyes}",
    "{s} {has} {p} eyes {eyes}",
    "{s} {keeps} {p} eyes {eyes}",
    "we see that {p} eyes are {eyes}",
    "in this photo {p} eyes are {eyes}",
    "as one can see, {p} eyes are {eyes}",
    "both eyes are {eyes}",
    "the eyes are {eyes}",
)
_LACK_WORN = (
    "{s} {wears} {no_worn}",
    "{s} {is} wearing {no_worn}",
    "{s} {has} {no_worn}",
    "{s} {has} {no_worn} on",
    "there {are:lack_worn} {no_worn} to be seen",
    "{no_worn} {can:lack_worn} be seen",
    "{no_worn} {are:lack_worn} visible",
    "{s} {does} not wear {or_worn}",
    "{s} {is} not wearing {or_worn}",
    "{s} {goes} without {or_worn}",
    "{s} {appears} without {or_worn}",
    "{s} {is} shown without {or_worn}",
    "we see {o} without {or_worn}",
    "the photo shows {o} without {or_worn}",
    "{s} {poses} without {or_worn}",
    "we see {no_worn}",
    "the picture shows {no_worn}",
)
_LACK_BEARD = (
    "{s} {has} {no_beard}",
    "{p} face shows {no_beard}",
    "there {are:lack_beard} {no_beard}",
    "there {are:lack_beard} {no_beard} on {p} face",
    "{s} {does} not have {or_beard}",
    "{s} {goes} without {or_beard}",
    "{p} face is without {or_beard}",
    "{p} face is free of {or_beard}",
    "{s} {appears} without {or_beard}",
    "we see {no_beard}",
    "{no_beard} {can:lack_beard} be seen",
)
_LACK_MARKS = (
    "{s} {has} {no_marks}",
    "{s} {does} not have {or_marks}",
    "there {are:lack_marks} {no_marks}",
    "there {are:lack_marks} {no_marks} to be seen",
    "we see {no_marks}",
    "{s} {appears} without {or_marks}",
    "{no_marks} {can:lack_marks} be seen",
    "{s} {is} without {or_marks}",
    "in this photo {s} {has} {no_marks}",
    "{s} {is} shown without {or_marks}",
)
_DENIED = (
    "{denied}",
    "we see that {denied}",
    "one can see that {denied}",
    "a closer look shows that {denied}",
    "it is plain to see that {denied}",
    "note that {denied}",
    "as for the details, {denied}",
    "it can be added that {denied}",
    "in this photo {denied}",
)
_PHOTO = (
    "the photo is {photo}",
    "the picture is {photo}",
    "the image is {photo}",
    "the whole image is {photo}",
    "the photograph is {photo}",
    "the portrait is {photo}",
    "the shot is {photo}",
    "seen as a whole, the picture is {photo}",
)

# --- Sentences about several topics -----------------------------------------------------------------------

_SEVERAL = (
    # hair and face
    "{s} {has} {hair} and a face with {features}",
    "{s} {has} {hair}, and {p} face shows {features}",
    "{p} face, framed by {hair}, shows {features}",
    "along with {hair}, {s} {has} {features}",
    "besides {hair}, one notices {features}",
    "with {hair} and a face with {features}, {s} {is} easy to recognise",
    "{hair} {frame:hair} a face with {features}",
    "{p} hair is {hair_is}, and {s} {has} {features}",
    "{p} hair is {hair_is}, while {p} face shows {features}",
    "beneath {hair} we see {features}",
    # hair and others
    "{s} {has} {hair} and {wears} {worn}",
    "{p} hair is {hair_is}, and {s} {wears} {worn}",
    "{s} {has} {hair} together with {beard}",
    "{s} {has} {hair}, paired with {beard}",
    "{p} hair is {hair_is}, and {s} {has} {beard}",
    "{s} {has} {hair} and {is} {state}",
    "{p} hair is {hair_is}, and {s} {is} {state}",
    "{s} {has} {hair} but {no_marks}",
    "{s} {has} {hair}, with {no_beard}",
    "{p} hair is {hair_is}, and there {are:lack_beard} {no_beard}",
    "{p} hair is {hair_is}, and {s} {wears} {no_worn}",
    "{s} {has} {hair} and {wears} {no_worn}",
    "{s} {has} {hair} and {feeling}",
    "{s} {has} {hair} and {smile}",
    "with {hair}, {s} {pose}",
    # face and beard
    "{s} {has} {features}, along with {beard}",
    "{p} face shows {features} as well as {beard}",
    "besides {beard}, {s} {has} {features}",
    "{s} {has} {features} but {no_beard}",
    "{s} {has} {features} and {is} {state}",
    "{s} {is} {state} and {has} {features}",
    # face and what it does not have
    "{s} {has} {features}, but {no_marks}",
    "{s} {has} {features} and {is} without {or_marks}",
    "{s} {has} {features}, and {denied}",
    "{s} {has} {features}, while {denied}",
    "{denied}, and {s} {has} {features}",
    "while {denied}, {p} face shows {features}",
    "{s} {has} {no_marks}, and {denied}",
    "{s} {smile} and {has} {no_marks}",
    "{s} {has} {no_marks} and {wears} {worn}",
    "{s} {pose}, and there {are:lack_marks} {no_marks}",
    "{s} {feeling} and {has} {no_marks}",
    "{denied}, and there {are:lack_marks} {no_marks}",
    # face and what is worn
    "{s} {has} {features} and {wears} {worn}",
    "{s} {has} {features} and {is} wearing {worn}",
    "{s} {wears} {worn}, and {p} face shows {features}",
    "wearing {worn}, {s} {shows} {features}",
    "{s} {has} {features} and {wears} {no_worn}",
    "without {or_worn}, {s} {shows} {features}",
    # face and expression
    "{s} {smile}, and {p} face shows {features}",
    "{s} {has} {features} and {smile}",
    "with {features}, {s} {pose}",
    "{s} {has} {features} and {feeling}",
    "{s} {pose}, and one can see {features}",
    # worn and not worn
    "{s} {wears} {worn} but {no_worn}",
    "{s} {is} wearing {worn} but {no_worn}",
    "{s} {wears} {worn}, though {no_worn}",
    "{s} {has} {worn} on, but {no_worn}",
    "{s} {wears} {worn} and {does} without {or_worn}",
    "there {are:worn} {worn} to be seen, but {no_worn}",
    "{s} {wears} {worn}, and {s} {is} {state}",
    "{s} {is} {state} and {wears} {worn}",
    "{s} {is} {state} and {wears} {no_worn}",
    "{s} {wears} {no_worn} and {is} {state}",
    "{s} {is} {state}, without {or_worn}",
    "{s} {has} {no_marks}, and {s} {wears} {no_worn}",
    "{s} {has} {no_beard} and {wears} {no_worn}",
    "{s} {wears} {no_worn}, and {p} face shows {no_beard}",
    "{s} {has} {no_beard}, and {s} {wears} {worn}",
    "{s} {has} {beard} and {wears} {worn}",
    "{s} {has} {beard} and {wears} {no_worn}",
    # worn and expression
    "{s} {smile}, wearing {worn}",
    "wearing {worn}, {s} {smile}",
    "wearing {worn}, {s} {pose}",
    "wearing {worn}, {s} {feeling}",
    "{s} {wears} {worn} and {feeling}",
    "{s} {wears} {worn} and {smile}",
    "{s} {wears} {worn} and {pose}",
    "without {or_worn}, {s} {pose}",
    "without {or_worn}, {s} {smile}",
    "{s} {smile} and {wears} {no_worn}",
    "{s} {pose} and {wears} {no_worn}",
    "{s} {feeling} and {wears} {no_worn}",
    # expression, mood, pose, eyes
    "{s} {pose} and {smile}",
    "{s} {smile} and {pose}",
    "{s} {feeling} and {pose}",
    "{s} {pose} with {mood}",
    "with {mood}, {s} {pose}",
    "{s} {pose} and {feeling}",
    "{s} {feeling} and {smile}",
    "{s} {smile} and {feeling}",
    "{s} {pose}, {smiling}",
    "{s} {smile}, and {p} eyes are {eyes}",
    "with {p} eyes {eyes}, {s} {smile}",
    "with {p} eyes {eyes}, {s} {pose}",
    "{s} {pose}, {p} eyes {eyes}",
    "with {p} eyes {eyes}, {s} {feeling}",
    "{p} eyes are {eyes}, and {s} {smile}",
    "{p} eyes are {eyes}, and {denied}",
    "{p} eyes are {eyes}, and {s} {has} {features}",
    "{p} eyes are {eyes}, and there {are:lack_marks} {no_marks}",
    "{s} {has} {features}, and {p} eyes are {eyes}",
    "{s} {smile}, and {denied}",
    "{s} {has} {no_marks}, and {p} eyes are {eyes}",
    "{s} {is} {state}, and {denied}",
    "{s} {is} {state} and {smile}",
    "{s} {is} {state} and {feeling}",
    # the photo
    "the photo is {photo} and shows {features}",
    "the picture is {photo}, and {s} {pose}",
    "the photo is {photo}, and {s} {smile}",
    "the image is {photo} and shows {no_worn}",
    "the photo is {photo}, and {denied}",
    # three topics
    "{s} {has} {hair}, {wears} {worn}, and {smile}",
    "{s} {has} {hair}, {feeling}, and {pose}",
    "{s} {has} {hair}, {smile}, and {pose}",
    "with {p} eyes {eyes}, {s} {pose} and {smile}",
    "{s} {pose}, {feeling}, and {wears} {no_worn}",
    "{s} {has} {hair}, {wears} {worn}, and {feeling}",
    "{s} {is} {state}, {wears} {no_worn}, and {pose}",
    "{s} {smile}, {pose}, and {wears} {no_worn}",
)

PLANS: tuple[str, ...] = (
    *_HAIR, *_FEATURES, *_BEARD, *_WORN, *_STATE, *_SMILE, *_FEELING, *_POSE, *_EYES,
    *_LACK_WORN, *_LACK_BEARD, *_LACK_MARKS, *_DENIED, *_PHOTO, *_SEVERAL,
)  # fmt: skip

# How two sentences become one.
JOINERS: tuple[str, ...] = (", and ", ", and ", "; ")

# --- Words --------------------------------------------------------------------------------------------------

# Verbs after a singular and after a plural subject.
VERBS: dict[str, str] = {
    "is": "are", "has": "have", "wears": "wear", "smiles": "smile", "looks": "look", "keeps": "keep",
    "shows": "show", "does": "do", "gives": "give", "faces": "face", "seems": "seem", "appears": "appear",
    "goes": "go", "poses": "pose", "sports": "sport", "can": "can", "frames": "frame", "stands": "stand",
    "shapes": "shape", "marks": "mark", "belongs": "belong", "covers": "cover", "completes": "complete",
    "rounds": "round", "adds": "add", "holds": "hold", "turns": "turn", "tilts": "tilt", "lets": "let",
}  # fmt: skip

# (he, his, him) by value of Male; unknown: they, or "the person".
PRONOUNS: dict[str, tuple[str, str, str]] = {
    "yes": ("he", "his", "him"),
    "no": ("she", "her", "her"),
    "": ("they", "their", "them"),
}
GROWN: dict[str, tuple[str, ...]] = {
    "yes": ("man", "man", "man", "man", "gentleman"),
    "no": ("woman", "woman", "woman", "woman", "lady"),
    "": ("person",),
}
CHILDREN: dict[str, tuple[str, ...]] = {"yes": ("boy",), "no": ("girl",), "": ("child", "child", "kid")}
# Age words before the noun, and phrases after it.
YOUNG: dict[str, tuple[str, ...]] = {"yes": ("young",), "no": ("older", "older", "mature")}
AGES: dict[str, tuple[str, ...]] = {
    "child": (),  # the noun says it
    "teenager": ("teenage", "teenage", "adolescent"),
    "young adult": ("young adult",),
    "middle-aged": ("middle-aged",),
    "senior": ("elderly", "old", "senior"),
}
AGES_AFTER: dict[str, tuple[str, ...]] = {
    "teenager": ("in {p} teens",),
    "young adult": ("in {p} twenties or early thirties",),
    "middle-aged": ("of middle age",),
    "senior": ("in {p} sixties or older",),
}

# Modifiers of the hair, the eyebrows and the nose: these merge with their noun.
MODIFIERS: dict[Pair, tuple[str, ...]] = {
    ("Black_Hair", "yes"): ("black",),
    ("Brown_Hair", "yes"): ("brown",),
    ("Blond_Hair", "yes"): ("blond", "blond", "blonde"),
    ("Gray_Hair", "yes"): ("gray", "gray", "grey"),
    ("Hair_Color", "red"): ("red", "red", "ginger"),
    ("Wavy_Hair", "yes"): ("wavy", "wavy", "softly wavy"),
    ("Straight_Hair", "yes"): ("straight",),
    ("Bushy_Eyebrows", "yes"): ("bushy", "bushy", "thick"),
    ("Arched_Eyebrows", "yes"): ("arched", "arched", "gently arched"),
    ("Big_Nose", "yes"): ("big", "large"),
    ("Pointy_Nose", "yes"): ("pointed", "pointy"),
}
COLORS = ("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair")
TEXTURES = ("Wavy_Hair", "Straight_Hair")

# topic -> pair -> things a face has, wears or lacks. Plain wordings are repeated to be commoner.
THINGS: dict[str, dict[Pair, tuple[str, ...]]] = {
    "hair": {
        ("Bangs", "yes"): ("bangs", "bangs", "a fringe"),
        ("Receding_Hairline", "yes"): ("a receding hairline",),
    },
    "features": {
        ("Bags_Under_Eyes", "yes"): ("bags under {p} eyes", "bags under {p} eyes", "bags beneath {p} eyes"),
        ("Narrow_Eyes", "yes"): ("narrow eyes", "rather narrow eyes"),
        ("High_Cheekbones", "yes"): ("high cheekbones",),
        ("Rosy_Cheeks", "yes"): ("rosy cheeks", "rosy cheeks", "pink cheeks", "flushed cheeks"),
        ("Chubby", "yes"): ("chubby cheeks", "a chubby face", "plump cheeks"),
        ("Pale_Skin", "yes"): ("pale skin", "pale skin", "a pale complexion", "fair skin"),
        ("Skin_Tone", "even"): ("an even complexion", "an even skin tone"),
        ("Big_Lips", "yes"): ("full lips", "full lips", "big lips"),
        ("Oval_Face", "yes"): ("an oval face", "an oval face", "an oval-shaped face"),
        ("Double_Chin", "yes"): ("a double chin",),
    },
    "beard": {
        ("No_Beard", "no"): ("a beard",),
        ("Goatee", "yes"): ("a goatee",),
        ("Mustache", "yes"): ("a mustache", "a mustache", "a moustache"),
        ("Sideburns", "yes"): ("sideburns",),
        ("5_o_Clock_Shadow", "yes"): ("stubble", "light stubble", "a five o'clock shadow"),
    },
    "worn": {
        ("Eyeglasses", "yes"): ("glasses", "glasses", "eyeglasses", "spectacles", "a pair of glasses"),
        ("Wearing_Hat", "yes"): ("a hat",),
        ("Wearing_Earrings", "yes"): ("earrings", "earrings", "a pair of earrings"),
        ("Wearing_Necklace", "yes"): ("a necklace",),
        ("Wearing_Necktie", "yes"): ("a tie", "a necktie"),
        ("Heavy_Makeup", "yes"): ("heavy makeup", "heavy makeup", "a lot of makeup"),
        ("Wearing_Lipstick", "yes"): ("lipstick",),
    },
    "lack_worn": {
        ("Eyeglasses", "no"): ("glasses", "glasses", "eyeglasses", "spectacles"),
        ("Wearing_Hat", "no"): ("a hat",),
        ("Wearing_Earrings", "no"): ("earrings",),
        ("Wearing_Necklace", "no"): ("a necklace",),
        ("Wearing_Necktie", "no"): ("a tie", "a necktie"),
        ("Heavy_Makeup", "no"): ("heavy makeup",),
        ("Wearing_Lipstick", "no"): ("lipstick",),
    },
    "lack_beard": {
        ("No_Beard", "yes"): ("a beard",),
        ("Mustache", "no"): ("a mustache", "a mustache", "a moustache"),
        ("Goatee", "no"): ("a goatee",),
        ("Sideburns", "no"): ("sideburns",),
        ("5_o_Clock_Shadow", "no"): ("stubble", "a five o'clock shadow"),
    },
    "lack_marks": {
        ("Bangs", "no"): ("bangs",),
        ("Receding_Hairline", "no"): ("a receding hairline",),
        ("Bags_Under_Eyes", "no"): ("bags under {p} eyes", "bags beneath {p} eyes"),
        ("Double_Chin", "no"): ("a double chin",),
    },
    "state": {
        ("Bald", "yes"): ("bald",),
        ("No_Beard", "yes"): ("clean-shaven",),
        ("Wearing_Hat", "no"): ("bareheaded", "hatless"),
    },
    "eyes": {("Eyes", "open"): ("open",)},
    "photo": {
        ("Blurry", "no"): ("in focus", "in sharp focus", "sharp"),
        ("Blurry", "yes"): ("slightly out of focus", "a little blurry", "blurry"),
    },
}
SUNGLASSES = ("sunglasses", "sunglasses", "a pair of sunglasses")

# subject and verb -> what it is said not to be
DENIALS: dict[str, dict[Pair, tuple[str, ...]]] = {
    "{p} nose is": {("Big_Nose", "no"): ("big", "large"), ("Pointy_Nose", "no"): ("pointed", "pointy")},
    "{p} eyebrows are": {("Bushy_Eyebrows", "no"): ("bushy", "thick"), ("Arched_Eyebrows", "no"): ("arched",)},
    "{p} lips are": {("Big_Lips", "no"): ("full",)},
    "{p} eyes are": {("Narrow_Eyes", "no"): ("narrow",)},
    "{p} face is": {("Oval_Face", "no"): ("oval",), ("Chubby", "no"): ("chubby",)},
    "{p} cheekbones are": {("High_Cheekbones", "no"): ("high",)},
    "{p} cheeks are": {("Rosy_Cheeks", "no"): ("rosy",)},
    "{p} skin is": {("Pale_Skin", "no"): ("pale",)},
    "{s} {is}": {("Bald", "no"): ("bald",)},
    "{p} hair is": {
        ("Wavy_Hair", "no"): ("wavy",),
        ("Black_Hair", "no"): ("black",),
        ("Brown_Hair", "no"): ("brown",),
        ("Blond_Hair", "no"): ("blond",),
        ("Gray_Hair", "no"): ("gray", "grey"),
    },
}

# (Smiling, Mouth_Slightly_Open) -> verb phrases, participle phrases; "" is left unsaid
Mouth = tuple[tuple[str, ...], tuple[str, ...]]
MOUTHS: dict[tuple[str, str], Mouth] = {
    ("yes", "yes"): (
        ("{is} smiling with an open mouth", "{is} smiling with parted lips", "{smiles} with {p} mouth slightly open",
         "{gives} an open-mouthed smile", "{smiles} with {p} lips parted"),
        ("smiling with an open mouth", "smiling with parted lips", "smiling with {p} mouth slightly open"),
    ),
    ("yes", "no"): (
        ("{is} smiling with a closed mouth", "{smiles} with closed lips", "{smiles} with {p} mouth closed",
         "{gives} a closed-mouth smile"),
        ("smiling with a closed mouth", "smiling with closed lips", "smiling with {p} mouth closed"),
    ),
    ("yes", ""): (
        ("{is} smiling", "{smiles}", "{has} a smile on {p} face", "{is} smiling"),
        ("smiling", "smiling", "with a smile on {p} face"),
    ),
    ("no", "yes"): (
        ("{has} {p} mouth slightly open without smiling", "{has} parted lips but no smile",
         "{is} not smiling but {has} {p} mouth slightly open"),
        ("not smiling but with {p} mouth slightly open", "with parted lips but without a smile"),
    ),
    ("no", "no"): (
        ("{keeps} {p} mouth closed without smiling", "{is} not smiling and {keeps} {p} mouth closed",
         "{has} a closed mouth and no smile", "{keeps} {p} lips closed and {does} not smile"),
        ("not smiling and with a closed mouth", "with closed lips and without a smile",
         "with {p} mouth closed and no smile"),
    ),
    ("no", ""): (("{is} not smiling", "{does} not smile", "{shows} no smile"), ("not smiling", "without a smile")),
    ("", "yes"): (
        ("{has} {p} mouth slightly open", "{has} {p} lips parted", "{keeps} {p} mouth slightly open"),
        ("with {p} mouth slightly open", "with parted lips"),
    ),
    ("", "no"): (
        ("{has} {p} mouth closed", "{keeps} {p} mouth closed", "{keeps} {p} lips closed"),
        ("with {p} mouth closed", "with closed lips"),
    ),
}  # fmt: skip

# emotion -> adjectives that "looks" takes, words before "expression"
EMOTIONS_SAID: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "neutral": ((), ("neutral", "neutral", "serious")),
    "happiness": (("happy", "happy", "cheerful", "joyful"), ("happy", "cheerful", "joyful")),
    "surprise": (("surprised",), ("surprised",)),
    "anger": (("angry",), ("angry",)),
    "sadness": (("sad",), ("sad",)),
    "contempt": (("contemptuous",), ("contemptuous",)),
    "disgust": (("disgusted",), ("disgusted",)),
    "fear": (("frightened", "scared"), ("frightened", "fearful")),
}
EXPRESSIONS = ("expression", "expression", "look")

# head pose -> verb phrases, participle phrases
POSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "facing forward": (
        ("{faces} the camera", "{is} facing the camera", "{looks} straight ahead", "{is} facing forward"),
        ("facing the camera", "looking straight ahead", "facing forward"),
    ),
    "turned to the side": (
        ("{has} {p} head turned to the side", "{is} turned to the side", "{looks} to the side"),
        ("with {p} head turned to the side", "looking to the side", "turned to the side"),
    ),
    "tilted up": (
        ("{has} {p} head tilted up", "{looks} up", "{is} looking up"),
        ("with {p} head tilted up", "looking up"),
    ),
    "tilted down": (
        ("{has} {p} head tilted down", "{looks} down", "{is} looking down"),
        ("with {p} head tilted down", "looking down"),
    ),
}

# How willingly a dense caption adds what is not there, and the plainest of what is; the rest counts 1.
WILLING: dict[Pair, float] = {
    ("Smiling", "no"): 9.0, ("Mouth_Slightly_Open", "no"): 5.0, ("No_Beard", "yes"): 6.0, ("Eyeglasses", "no"): 4.0,
    ("Wearing_Hat", "no"): 4.0, ("Wearing_Earrings", "no"): 3.0, ("Wearing_Necklace", "no"): 2.5,
    ("Wearing_Necktie", "no"): 2.5, ("Mustache", "no"): 3.0, ("Goatee", "no"): 2.0, ("5_o_Clock_Shadow", "no"): 2.0,
    ("Sideburns", "no"): 2.0, ("Bangs", "no"): 2.5, ("Bags_Under_Eyes", "no"): 2.0, ("Heavy_Makeup", "no"): 2.0,
    ("Wearing_Lipstick", "no"): 2.0, ("Skin_Tone", "even"): 2.0, ("Eyes", "open"): 2.0, ("Blurry", "no"): 1.2,
    ("Bald", "no"): 1.5,
    ("High_Cheekbones", "no"): 0.4, ("Oval_Face", "no"): 0.5, ("Wavy_Hair", "no"): 0.4, ("Pale_Skin", "no"): 0.6,
    ("Narrow_Eyes", "no"): 0.5, ("Rosy_Cheeks", "no"): 0.6, ("Big_Lips", "no"): 0.6,
}  # fmt: skip

PREFIXES: tuple[str, ...] = (
    "", "", "", "", "", "", "", "portrait of ", "a portrait of ", "photo of ", "a photo of ", "a close-up of ",
)  # fmt: skip
