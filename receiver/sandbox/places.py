"""Where and on what people spend: countries, currencies, trades, merchants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final


@dataclass(frozen=True, slots=True)
class Trade:
    """A line of business: its card category (ISO 18245), usual prices and what is bought there."""

    mcc_code: str
    mcc_text: str
    mcc_top_level: str
    branch_code: str
    category_text: str
    euros: tuple[int, int]
    """The usual range of a purchase, in euros whatever the country."""
    goods: tuple[str, ...]
    tipped: bool = False


@dataclass(frozen=True, slots=True)
class Merchant:
    """A shop: as the card network names it, as everybody does, and its trade."""

    network_name: str
    name: str
    trade: Trade


@dataclass(frozen=True, slots=True)
class Country:
    """A country with its money, clock, VAT percentages (the standard one first), cities and merchants."""

    code: str
    currency: str
    timezone: str
    utc_offset: timedelta
    """In winter: a story does not reach summer time."""
    vat_percentages: tuple[Decimal, ...]
    cities: tuple[str, ...]
    merchants: tuple[Merchant, ...]


GROCERY: Final = Trade(
    "5411", "Grocery Stores, Supermarkets", "Retail Outlet Services", "4711", "Groceries", (4, 90),
    ("Kaffe, mörkrost", "Mjölk 1 l", "Brød", "Äpfel", "Jäätelö", "Oolong tea", "Frukt & grönt"),
)  # fmt: skip
RESTAURANT: Final = Trade(
    "5812", "Eating Places, Restaurants", "Food Services", "5610", "Meals", (9, 240),
    ("Dagens lunch", "Smørrebrød", "Crème brûlée", "Mineral water", "Espresso", "Żurek", "Entrecôte"), tipped=True,
)  # fmt: skip
HOTEL: Final = Trade(
    "7011", "Hotels, Motels, Resorts", "Lodging", "5510", "Accommodation", (80, 620),
    ("Single room", "Frühstück", "Parking", "City tax", "Late check-out"),
)  # fmt: skip
RAIL: Final = Trade(
    "4112", "Passenger Railways", "Transportation Services", "4910", "Travel", (3, 160),
    ("2nd class", "Seat reservation", "Supplement 1:a klass", "Bicycle"),
)  # fmt: skip
TAXI: Final = Trade(
    "4121", "Taxicabs and Limousines", "Transportation Services", "4932", "Travel", (8, 75),
    ("Ride", "Airport fee", "Night supplement"), tipped=True,
)  # fmt: skip
FUEL: Final = Trade(
    "5541", "Service Stations", "Retail Outlet Services", "4730", "Vehicle", (25, 110),
    ("Diesel", "Blyfri 95", "Spolarvätska", "Car wash", "Charging, kWh"),
)  # fmt: skip
ELECTRONICS: Final = Trade(
    "5732", "Electronics Stores", "Retail Outlet Services", "4743", "Equipment", (15, 1900),
    ("USB-C cable", "Näyttö 27″", "Clavier", "Headset", "Mus, trådløs"),
)  # fmt: skip

PER_EURO: Final[dict[str, Decimal]] = {
    "EUR": Decimal(1),
    "SEK": Decimal("11.0852"),
    "NOK": Decimal("11.6420"),
    "DKK": Decimal("7.4604"),
    "ISK": Decimal("146.90"),
    "PLN": Decimal("4.2715"),
    "CZK": Decimal("25.134"),
    "GBP": Decimal("0.8431"),
    "CHF": Decimal("0.9412"),
}
"""Units of each currency for one euro, on a typical day."""

_SMALLEST: Final[dict[str, Decimal]] = {"ISK": Decimal(1)}


def smallest(currency: str) -> Decimal:
    """Return the smallest amount of *currency* there is, in major units (0.01, or 1 for currencies without cents)."""
    return _SMALLEST.get(currency, Decimal("0.01"))


def _country(
    code: str, currency: str, timezone: str, offset: int, vat: str, cities: tuple[str, ...], *merchants: Merchant
) -> Country:
    percentages = tuple(Decimal(percentage) for percentage in vat.split())
    return Country(code, currency, timezone, timedelta(hours=offset), percentages, cities, merchants)


COUNTRIES: Final[tuple[Country, ...]] = (
    _country(
        "SE", "SEK", "Europe/Stockholm", 1, "25 12 6", ("Malmö", "Göteborg", "Örnsköldsvik", "Stockholm"),
        Merchant("PRESSBYRAN 5123", "Pressbyrån", GROCERY),
        Merchant("ICA NARA MOLLEVANGEN", "ICA Nära Möllevången", GROCERY),
        Merchant("RESTAURANG ÅNGBÅTEN AB", "Ångbåten", RESTAURANT),
        Merchant("SJ AB INTERNET", "SJ", RAIL),
        Merchant("CIRCLE K VÄRNAMO", "Circle K", FUEL),
    ),
    _country(
        "FI", "EUR", "Europe/Helsinki", 2, "25.5 13.5 10", ("Helsinki", "Jyväskylä", "Mariehamn"),
        Merchant("K-MARKET TÖÖLÖ", "K-Market Töölö", GROCERY),
        Merchant("RAVINTOLA MERIPÄÄSKY", "Meripääsky", RESTAURANT),
        Merchant("VR MATKALIPPU", "VR", RAIL),
        Merchant("GIGANTTI LÄNSIKESKUS", "Gigantti", ELECTRONICS),
    ),
    _country(
        "NO", "NOK", "Europe/Oslo", 1, "25 15 12", ("Oslo", "Tromsø", "Ålesund"),
        Merchant("KIWI 314 GRÜNERLØKKA", "Kiwi", GROCERY),
        Merchant("HOTELL BRYGGEKANTEN", "Hotell Bryggekanten", HOTEL),
        Merchant("OSLO TAXI AS", "Oslo Taxi", TAXI),
    ),
    _country(
        "DK", "DKK", "Europe/Copenhagen", 1, "25", ("København", "Århus", "Rønne"),
        Merchant("NETTO NØRREBROGADE", "Netto", GROCERY),
        Merchant("SMØRREBRØD PÅ HJØRNET", "Smørrebrød på Hjørnet", RESTAURANT),
        Merchant("DSB APP", "DSB", RAIL),
    ),
    _country(
        "DE", "EUR", "Europe/Berlin", 1, "19 7", ("München", "Köln", "Berlin"),
        Merchant("GASTHAUS ZUM GRÜNEN BÄREN", "Zum Grünen Bären", RESTAURANT),
        Merchant("HOTEL AM SCHLOSSGÄSSCHEN", "Hotel am Schlossgässchen", HOTEL),
        Merchant("DB VERTRIEB GMBH", "Deutsche Bahn", RAIL),
        Merchant("MEDIA MARKT 0417", "MediaMarkt", ELECTRONICS),
    ),
    _country(
        "FR", "EUR", "Europe/Paris", 1, "20 10 5.5", ("Paris", "Besançon", "Nîmes"),
        Merchant("BRASSERIE L'ÉTOILE D'OR", "L'Étoile d'Or", RESTAURANT),
        Merchant("HÔTEL DES TROIS CHÊNES", "Hôtel des Trois Chênes", HOTEL),
        Merchant("SNCF-VOYAGEURS", "SNCF", RAIL),
    ),
    _country(
        "PL", "PLN", "Europe/Warsaw", 1, "23 8 5", ("Łódź", "Kraków", "Gdańsk"),
        Merchant("ŻABKA Z5512 K.1", "Żabka", GROCERY),
        Merchant("RESTAURACJA POD ŁABĘDZIEM", "Pod Łabędziem", RESTAURANT),
        Merchant("ORLEN STACJA NR 204", "Orlen", FUEL),
    ),
    _country(
        "CZ", "CZK", "Europe/Prague", 1, "21 12", ("Praha", "Plzeň"),
        Merchant("HOSPODA U ČERNÉHO KONĚ", "U Černého koně", RESTAURANT),
        Merchant("CESKE DRAHY ESHOP", "České dráhy", RAIL),
    ),
    _country(
        "IS", "ISK", "Atlantic/Reykjavik", 0, "24 11", ("Reykjavík", "Ísafjörður"),
        Merchant("BÓNUS HOLTAGARÐAR", "Bónus", GROCERY),
        Merchant("GISTIHÚSIÐ VIÐ HÖFNINA", "Gistihúsið við Höfnina", HOTEL),
    ),
    _country(
        "GB", "GBP", "Europe/London", 0, "20 5", ("London", "Edinburgh"),
        Merchant("THE FOX & THE ANCHOR", "The Fox & the Anchor", RESTAURANT),
        Merchant("BLACK CAB 48213", "Black Cab", TAXI),
    ),
    _country(
        "CH", "CHF", "Europe/Zurich", 1, "8.1 3.8 2.6", ("Zürich", "Genève"),
        Merchant("CAFÉ CONFISERIE ZÄHRINGER", "Confiserie Zähringer", RESTAURANT),
        Merchant("SBB CFF FFS MOBILE", "SBB", RAIL),
    ),
)  # fmt: skip

HOMES: Final[tuple[Country, ...]] = COUNTRIES[:4]
"""Where organizations sit."""
