"""Names of people and street addresses, as far as patterns find them: both are opt-in.

A name is only looked for where something says that one follows or stands alone: a title, a greeting, "my name is", the
line under "regards". That misses most names in running prose, and finds few that are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from .characters import Characters, Found

_PARTICLES = rb"(?:(?:van|von|der|den|de|da|do|dos|di|del|della|la|le|el|al|bin|ibn|af|av) ){0,2}"
_NAME = rb"[A-Z\x80][A-Za-z\x80'-]{0,30}"
_FULL_NAME = rb"%b[A-Z\x80][A-Za-z\x80'-]{1,30}(?: %b%b\.?){0,3}" % (_PARTICLES, _PARTICLES, _NAME)
# Nothing that could be a part of something else stands right behind.
_END = rb"(?![0-9A-Za-z_\x80+@:/-])"
_TITLES = rb"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Dame|Herr|Frau|Monsieur|Madame|Mme|Mlle|Se\x80or|Se\x80ora|Sra"
_TITLES += rb"|Signor|Signora|mr|mrs|ms|dr)"
_BESIDE = re.compile(
    rb"\b%b\.? (?P<titled>%b)"
    rb"|\b(?:Dear|Hi|Hello|Hey|Cher|Ch\x80re|Lieber?|Hallo|Hola|Estimad[oa]|Ciao|Caro|Cara|Gentile),? (?:%b\.? )?"
    rb"(?P<greeted>%b)(?=[,!.:\n]| ?-)"
    rb"|\b(?:[Mm]y (?:full |first |last )?name(?: is|'s)|[Nn]ame[:?]|[Mm]ein Name ist|[Ii]ch hei\x80e|[Jj]e m'appelle"
    rb"|[Mm]e llamo|[Mm]i chiamo|[Mm]eu nome \x80)[ \t\n]{1,3}(?:%b\.? )?(?P<named>%b)"
    rb"|\b(?:[Rr]egards|[Ss]incerely|[Ww]ishes|[Cc]heers|[Tt]ruly|[Ff]aithfully|Gr\x80\x80en|Cordialement"
    rb"|Saludos|Saluti)"
    rb"[,.!]?[ \t]{0,3}\n\s{0,4}(?P<signed>%b)[ \t]{0,3}(?=\n|\0)"
    % (_TITLES, _FULL_NAME + _END, _TITLES, _FULL_NAME + _END, _TITLES, _FULL_NAME + _END, _FULL_NAME)
)
# Words in capitals that follow a greeting or a title and name nobody.
_NOBODY = frozenset(
    b"Mr Mrs Ms Miss Dr Prof Sir Madam Sirs Team All Everyone Everybody Customer Customers Friend Friends There"
    b" Support Colleague Colleagues Reader Readers User Users Valued Hiring Manager Person Client Guest Member"
    b" Members Folks World The You I We My Thank Thanks This That Please Bot Chair President Editor Committee"
    b" Applicant Candidate Is".split()
)

_WORD = rb"[A-Z\x80\x82][A-Za-z\x80'.-]{0,30}"
_STREET_TYPES = (
    rb"(?:Street|St|Road|Rd|Avenue|Ave|Av|Lane|Ln|Drive|Dr|Boulevard|Blvd|Way|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter"
    rb"|Parkway|Pkwy|Highway|Hwy|Crescent|Cres|Close|Circle|Cir|Trail|Trl|Row|Gardens|Grove|Mews|Quay|Hill"
    rb"|Alley|Streets"
    rb"|Squares|Roads|Esplanade|Parade)"
)
_FLAT = rb"(?:,?[ \n]{1,2}(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Room|#)\.? ?#?[0-9A-Za-z-]{1,6})"
_CITY = rb"(?:,?[ \n]{0,2}%b(?: %b){0,2})?,?[ \n]{1,2}(?:(?:[A-Z]{2} )?[0-9]{5}(?:-[0-9]{4})?"
_CITY += rb"|[A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2})\b"
_STREET_LAST = re.compile(
    rb"[0-9]{1,6}[A-Za-z]?(?:-[0-9]{1,4})?,? (?!(?:The|This|That|A|An|My|Our|Your|In|On|One|Which|What"
    rb"|No) )(?:[NSEW]{1,2}\.? )?(?:%b ){1,4}%b(?![A-Za-z0-9_\x80])\.?%b?(?:%b)?%b"
    % (_WORD, _STREET_TYPES, _FLAT, _CITY % (_WORD, _WORD), _END)
)
_ROMAN = (
    rb"(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Pp]lace|[Cc]hemin|[Aa]ll\x80e|[Cc]alle|[Aa]venida|[Pp]laza|[Pp]aseo|[Vv]ia"
    rb"|[Vv]iale|[Pp]iazza|[Cc]orso|[Rr]ua|[Tt]ravessa|[Ll]argo|[Uu]lica|[Uu]l\.|[Ss]trada|[Rr]ambla|[Cc]/)"
)
_PARTICLE = rb"(?:(?:de|du|des|la|le|les|l'|d'|del|della|do|da|dos|das|di|y|e|el|los|las) ){0,3}"
_ROMAN_FIRST = re.compile(rb"[0-9]{1,4}(?:,| bis| ter)?,? %b (?:%b%b ?){1,4}" % (_ROMAN, _PARTICLE, _WORD))
_GERMANIC = re.compile(
    rb"(?<![0-9A-Za-z_\x80+-])(?:%b )?[A-Z\x80][A-Za-z\x80-]{1,30}(?:stra\x80e|strasse|str\.|gasse|weg|platz"
    rb"|allee|damm|ufer|gade|gata|gatan|v\x80gen"
    rb"|vangen|veien|vej|gate|straat|laan|kade|plein|katu|tie|kuja|polku|tn\.?|g\x80tan|vegen|vegur|gatan?)"
    rb"(?: (?:utca|u\.|t\x80r|\x80t))? \Z|%b (?:%b%b,? ){1,4}\Z|%b (?:utca|u\.|t\x80r|\x80t) \Z"
    % (_WORD, _ROMAN, _PARTICLE, _WORD, _WORD)
)
_NUMBER = re.compile(rb"[0-9]{1,5}(?:[/-][0-9]{1,4})? ?[A-Za-z]?(?![0-9A-Za-z_\x80])\.?%b?%b" % (_FLAT, _END))
_BOX = re.compile(
    rb"(?:\b[Pp]\.? ?[Oo]\.? [Bb]ox|\b(?:PSC|CMR|Unit|psc|unit) [0-9]{1,6},? [Bb]ox|\bPostfach|\bBo\x80te [Pp]ostale"
    rb"|\bApartado) \Z"
)
_BOX_NUMBER = re.compile(rb"[0-9]{1,6}%b(?:,?[ \n]{1,2}(?:[ADF]PO|[adf]po) (?:A[AEP]|a[aep]) [0-9]{5})?" % _END)


def find_people(text: Characters) -> Iterator[Found]:
    """Names beside a title, a greeting, an introduction or above the end of a letter."""
    for match in _BESIDE.finditer(text.flat):
        group = match.lastgroup
        assert group is not None
        start, end = match.span(group)
        words = match[group].split()
        if words[0].rstrip(b".") in _NOBODY or len(words[0].rstrip(b".")) < 2:
            continue
        while words[-1].rstrip(b".") in _NOBODY:
            end -= len(words.pop()) + 1
        if text.flat[end - 1 : end] == b"." and len(words[-1]) > 2:
            end -= 1
        if text.flat[end - 2 : end] == b"'s":
            end -= 2
        yield Found(start, end, "person", group)


def find_addresses(text: Characters) -> Iterator[Found]:
    """Street addresses with a house number, and post boxes."""
    flat, numbers = text.flat, text.numbers
    last = 0
    if not len(numbers.places):
        return
    first = numbers.places[np.concatenate([[0], numbers.breaks + 1])]
    for start in first.tolist():
        if start < last:
            continue
        if found := _address_at(flat, start):
            last = found.end
            yield found


def _address_at(flat: bytes, start: int) -> Found | None:
    """The address whose house number or box number stands at a place."""
    before = flat[max(0, start - 100) : start].rpartition(b"\0")[2]
    if re.search(rb"[0-9A-Za-z_\x80.,$#:/-]\Z", before):
        return None
    # The last digits of a longer number are no house's.
    if re.search(rb"[0-9] \Z", before) and re.match(rb"[0-9]{5}", flat[start : start + 5]):
        return None
    for pattern in (_STREET_LAST, _ROMAN_FIRST):
        if match := pattern.match(flat, start):
            return Found(start, start + len(match.group().rstrip(b" ,.")), "address", "street")
    # A street's name, or the word "box", before the number.
    if not re.search(rb"[A-Za-z\x80.,] \Z", before):
        return None
    for ahead, number, detail in ((_GERMANIC, _NUMBER, "street"), (_BOX, _BOX_NUMBER, "post box")):
        if (name := ahead.search(before)) and (match := number.match(flat, start)):
            first = start - len(before) + name.start()
            return Found(first, start + len(match.group().rstrip(b" .")), "address", detail)
    return None
