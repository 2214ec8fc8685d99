"""Stop words and irregular forms by language. A language that is not listed is indexed by its script."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Language:
    """The words of a language. Its stop words also identify the language of a text."""

    stemmer: str
    stop_words: frozenset[str]
    forms: dict[str, str] = field(default_factory=dict)


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _parse_forms(text: str) -> dict[str, str]:
    # A line such as "go: went gone" gives two items, from each form to its word.
    pairs = (line.split(":") for line in text.strip().splitlines())
    return {form: word.strip() for word, forms in pairs for form in forms.split()}


ENGLISH = Language(
    stemmer="english",
    stop_words=_word_set("""
        a about after again all also am an and any are as at be because been before being both but by
        can could did do does doing done down during each either else ever few for from further had has
        have having he her here hers him himself his how i if in into is it its itself just let like
        likely lot many may maybe me might more most much must my myself no nor not now of off oh ok on
        once one only or other our ours out over own please quite rather really s same shall she should
        so some such t than that the their theirs them then there these they this those though through
        to too um under until up upon us very was we well were what when where whether which while who
        whom whose why will with within without would yeah yes yet you your yours
    """),
    forms=_parse_forms("""
        go: went gone
        buy: bought
        see: saw seen
        get: got gotten
        give: gave given
        take: took taken
        make: made
        write: wrote written
        read: reads
        begin: began begun start started starts starting
        run: ran
        swim: swam swum
        sing: sang sung
        drive: drove driven
        ride: rode ridden
        eat: ate eaten
        drink: drank drunk
        speak: spoke spoken
        think: thought
        teach: taught
        catch: caught
        bring: brought
        find: found
        lose: lost
        win: won
        meet: met
        feel: felt
        keep: kept
        leave: left
        send: sent
        spend: spent
        build: built
        tell: told
        say: said
        know: knew known
        grow: grew grown
        fly: flew flown
        draw: drew drawn
        choose: chose chosen
        break: broke broken
        wear: wore worn
        hold: held
        come: came
        become: became
        sell: sold
        sleep: slept
        fall: fell fallen
        forget: forgot forgotten
        hear: heard
        pay: paid
        sit: sat
        stand: stood
        understand: understood
        child: children kid kids
        person: people
        man: men
        woman: women
        foot: feet
        mother: mom mum moms mothers mums
        father: dad dads fathers
        grandmother: grandma grandmas
        grandfather: grandpa grandpas
        photo: pic pics photos photograph photographs picture pictures image
        movie: film films movies
        hobby: hobbies pastime
        job: jobs career careers occupation profession work
        car: cars vehicle vehicles
        dog: dogs pup pups puppy puppies doggo
        cat: cats kitty kitten kittens
        pet: pets
        bike: bicycle bicycles bikes
        phone: phones telephone cellphone
        television: tv
        town: towns hometown
        trip: trips vacation vacations holiday holidays journey
        relation: relationship relationships
        city: cities
        country: countries
        food: foods meal meals dish dishes
        2: two
        3: three
        4: four
        5: five
        6: six
        7: seven
        8: eight
        9: nine
        10: ten
        11: eleven
        12: twelve
    """),
)
GERMAN = Language(
    stemmer="german",
    stop_words=_word_set("""
        aber alle als also am an auch auf aus bei bin bis bist da damit dann das dass dein deine dem den
        der des dich die dies diese dieser dir doch du durch ein eine einem einen einer er es euch für
        gegen habe haben hat hatte hatten ich ihm ihn ihr ihre im in ist ja jede kann kein keine können
        mein meine mich mir mit nach nicht noch nun nur ob oder ohne schon sehr sein seine sich sie sind
        so über um und uns unser von vor war waren was wann warum weil welche wenn wer werden wie wieder
        will wir wird wo wurde zu zum zur
    """),
)
FRENCH = Language(
    stemmer="french",
    stop_words=_word_set("""
        à ai au aux avec avait c ce ces cette d dans de des donc du elle en est et été être fait il ils
        j je l la le les leur lui ma mais me mes moi mon ne nos notre nous on où ou par pas pour qu
        quand que quel quelle qui s sa sans se ses son sont sur ta te tes toi ton tu un une vos votre
        vous y
    """),
)
SPANISH = Language(
    stemmer="spanish",
    stop_words=_word_set("""
        a al como con cuando cuál de del desde donde dónde el ella ellos en era es esta este están está
        fue ha han hay la las le lo los me mi mis muy más no nos para pero por porque que qué quién se
        ser si sin sobre son su sus también te tiene tu un una uno y ya yo
    """),
)
# The first language is assumed for a text without stop words of any.
LATIN = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH}

ARABIC_STOP_WORDS = _word_set(
    "في من على إلى عن هذا هذه ذلك التي الذي ما هل كان كانت أن إن لا مع هو هي أنا نحن متى أين كيف و يا قد"
)
RUSSIAN_STOP_WORDS = _word_set(
    """
    и в во не что он на я с со как а то все она так его но да ты к у же вы за бы по ее мне было вот от меня
    о из ему когда где кто это мой
    """
)
