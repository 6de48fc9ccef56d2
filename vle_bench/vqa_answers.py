"""VQA answers as the official program normalises them, bug for bug (GT-Vision-Lab/VQA, `vqaEval.py`)."""

import re

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# The official program passes a flag where `re.sub` takes its count: re.UNICODE is 32, so the 33rd period stays.
MAX_PERIODS = 32
_PERIOD = re.compile(r"(?!<=\d)\.(?!\d)")
_DIGIT_COMMA = re.compile(r"\d,\d")
_NUMBERS = dict(zip("none zero one two three four five six seven eight nine ten".split(),
                    "0 0 1 2 3 4 5 6 7 8 9 10".split(), strict=True))  # fmt: skip
_ARTICLES = {"a", "an", "the"}

# The official table of contractions, odd entries included (`somebody'd` loses its apostrophe, `Im` can never match because
# words are lower-cased first). Each word stands for: the key without the apostrophes that the official key lacks.
_CONTRACTED = """
aint=ain't arent=aren't cant=can't couldve=could've couldnt=couldn't couldn'tve=couldn't've couldnt've=couldn't've
didnt=didn't doesnt=doesn't dont=don't hadnt=hadn't hadnt've=hadn't've hadn'tve=hadn't've hasnt=hasn't havent=haven't
hed=he'd hed've=he'd've he'dve=he'd've hes=he's howd=how'd howll=how'll hows=how's Id've=I'd've I'dve=I'd've Im=I'm
Ive=I've isnt=isn't itd=it'd itd've=it'd've it'dve=it'd've itll=it'll let's=let's maam=ma'am mightnt=mightn't
mightnt've=mightn't've mightn'tve=mightn't've mightve=might've mustnt=mustn't mustve=must've neednt=needn't notve=not've
oclock=o'clock oughtnt=oughtn't ow's'at='ow's'at 'ows'at='ow's'at 'ow'sat='ow's'at shant=shan't shed've=she'd've
she'dve=she'd've she's=she's shouldve=should've shouldnt=shouldn't shouldnt've=shouldn't've shouldn'tve=shouldn't've
somebody'd=somebodyd somebodyd've=somebody'd've somebody'dve=somebody'd've somebodyll=somebody'll somebodys=somebody's
someoned=someone'd someoned've=someone'd've someone'dve=someone'd've someonell=someone'll someones=someone's
somethingd=something'd somethingd've=something'd've something'dve=something'd've somethingll=something'll thats=that's
thered=there'd thered've=there'd've there'dve=there'd've therere=there're theres=there's theyd=they'd theyd've=they'd've
they'dve=they'd've theyll=they'll theyre=they're theyve=they've twas='twas wasnt=wasn't wed've=we'd've we'dve=we'd've
weve=we've werent=weren't whatll=what'll whatre=what're whats=what's whatve=what've whens=when's whered=where'd
wheres=where's whereve=where've whod=who'd whod've=who'd've who'dve=who'd've wholl=who'll whos=who's whove=who've
whyll=why'll whyre=why're whys=why's wont=won't wouldve=would've wouldnt=wouldn't wouldnt've=wouldn't've
wouldn'tve=wouldn't've yall=y'all yall'll=y'all'll y'allll=y'all'll yall'd've=y'all'd've y'alld've=y'all'd've
y'all'dve=y'all'd've youd=you'd youd've=you'd've you'dve=you'd've youll=you'll youre=you're youve=you've
"""
CONTRACTIONS = dict(pair.split("=") for pair in _CONTRACTED.split())


def clean(answer: str) -> str:
    """What every answer gets: line ends and tabs are spaces, no space around it."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def normalize_answer(answer: str) -> str:
    """`clean`, then punctuation, digits, articles and contractions, as the official program does when annotators differ."""
    text = clean(answer)
    spaced = _DIGIT_COMMA.search(text) is not None
    result = text
    for mark in PUNCTUATION:
        delete = spaced or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if delete else " ")
    result = _PERIOD.sub("", result, count=MAX_PERIODS)
    words = (_NUMBERS.get(word, word) for word in result.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def soft_target(matches: int) -> float:
    """METER's and VLE's training target for an answer that so many of the ten annotators gave; not the official accuracy."""
    return (0.0, 0.3, 0.6, 0.9, 1.0)[min(matches, 4)]
