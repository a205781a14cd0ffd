"""The names of columns in price files, and what they mean."""

import re

ADJUSTED = "adjusted"

BARS = ("open", "high", "low", "close")

VOLUME, ADJUSTED_VOLUME = "volume", "adjusted volume"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TIMES = _words(
    "date time datetime timestamp gmttime utctime timegmt timeutc dategmt dateutc datetimeutc timestamputc localtime "
    "datadate tradedate tradingdate tradingday pricedate quotedate caldt unix unixtime unixtimestamp epoch opentime "
    "windowstart bartime dtyyyymmdd timekey"
)
"""Names of columns of times. The first column needs none of them: DAY and DT are symbols, too."""

SYMBOLS = _words("symbol symbols ticker tickers tic tickersymbol stocksymbol stockticker actsymbol")
"""Names of columns of symbols."""

MAYBE_SYMBOLS = _words("name stock stockname asset security instrument company companyname code")
"""Names of columns of symbols if there is no better one, and if they hold text."""

CLOSES = _words(
    "close closelast closeprice closingprice priceclose price last lastprice pxlast latest settle settlementprice"
)
ADJUSTED_CLOSES = _words(
    "adjclose adjustedclose adjcloseprice adjustedcloseprice adjclosingprice adjustedclosingprice closeadj "
    "closeadjusted closeadjustedprice closepriceadj closepriceadjusted adjcp adjusted adjprice adjustedprice "
    "priceadj adjlast"
)
VOLUMES = _words(
    "volume vol volumes tickvol tickvolume sharevolume tradevolume adjvolume adjustedvolume volumetraded totalvolume "
    "openint openinterest change change% %change %chg changepercent pctchange dividends dividend stocksplits "
    "divcash dividendamount splitfactor splitratio splitcoefficient exdividend capitalgains vwap tradecount "
    "adjopen adjhigh adjlow adjustedopen adjustedhigh adjustedlow repaired"
)
"""Names of columns that no symbol has, beside prices."""

TRADED = {
    VOLUME: _words("volume vol volumes sharevolume tradevolume volumetraded totalvolume"),
    ADJUSTED_VOLUME: _words("adjvolume adjustedvolume"),
}
"""Names of columns of the number of shares traded. A broker's count of ticks is none."""

OTHER_BARS = {
    "open": _words("open openprice openingprice priceopen pxopen"),
    "high": _words("high highprice pricehigh pxhigh dayhigh"),
    "low": _words("low lowprice pricelow pxlow daylow"),
}

UNCLEAR = _words("o h l c v t n vw open high low ma sma ema wma cci rsi macd atr adx obv mfi roc mom tr bb all key now")
"""Names of columns of one symbol's file, in lower case, that are or may be symbols, too."""


def name_column(text: str) -> str:
    """Return a column's name in lower case, without what differs between sources: `1. Open (USD)` is `open`."""
    name = re.sub(r"^\d+[a-z]?[.)]\s+", "", text.strip().strip("<>").lower())
    name = re.sub(r"\((usd|us\$|\$)\)|[\s_]usd$", "", name)
    return re.sub(r"[^a-z0-9%]+", "", name)


def find_bar(name: str) -> str | None:
    """Return what prices a column has, by its name; None if it has none."""
    if name in CLOSES:
        return "close"
    if name in ADJUSTED_CLOSES:
        return ADJUSTED
    return next((bar for bar, names in OTHER_BARS.items() if name in names), None)


def find_volume(name: str) -> str | None:
    """Return what volume a column has, by its name: as traded, or adjusted for splits; None if it has none."""
    return next((volume for volume, names in TRADED.items() if name in names), None)


def is_clear(name: str) -> bool:
    """Check whether a column's name is a price's or a volume's, and no symbol's."""
    return name in VOLUMES or find_bar(name) in ("close", ADJUSTED)
