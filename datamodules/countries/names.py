"""Plain English for the codes of countryinfo, as a language model writes them."""

from __future__ import annotations

# ISO 3166 codes of the members of the United Nations.
_MEMBERS = (
    "AF AL DZ AD AO AG AR AM AU AT AZ BS BH BD BB BY BE BZ BJ BT BO BA BW BR BN BG BF BI CV KH "
    "CM CA CF TD CL CN CO KM CG CD CR CI HR CU CY CZ KP DK DJ DM DO EC EG SV GQ ER EE SZ ET FJ "
    "FI FR GA GM GE DE GH GR GD GT GN GW GY HT HN HU IS IN ID IR IQ IE IL IT JM JP JO KZ KE KI "
    "KW KG LA LV LB LS LR LY LI LT LU MG MW MY MV ML MT MH MR MU MX FM MD MC MN ME MA MZ MM NA "
    "NR NP NL NZ NI NE NG MK NO OM PK PW PA PG PY PE PH PL PT QA KR RO RU RW KN LC VC WS SM ST "
    "SA SN RS SC SL SG SK SI SB SO ZA SS ES LK SD SR SE CH SY TJ TZ TH TL TG TO TT TN TR TM TV "
    "UG UA AE GB US UY UZ VU VE VN YE ZM ZW"
)
MEMBERS = frozenset(_MEMBERS.split())

REGIONS = {
    "Northern Africa": "North Africa", "Western Africa": "West Africa",
    "Eastern Africa": "East Africa", "Middle Africa": "Central Africa",
    "Southern Africa": "Southern Africa", "Northern America": "North America",
    "Central America": "Central America", "Caribbean": "the Caribbean",
    "South America": "South America", "Central Asia": "Central Asia", "Eastern Asia": "East Asia",
    "South-eastern Asia": "Southeast Asia", "Southern Asia": "South Asia",
    "Western Asia": "Western Asia", "Eastern Europe": "Eastern Europe",
    "Northern Europe": "Northern Europe", "Southern Europe": "Southern Europe",
    "Western Europe": "Western Europe", "Australia and New Zealand": "Australasia",
    "Melanesia": "Melanesia", "Micronesia": "Micronesia", "Polynesia": "Polynesia",
}  # fmt: skip

CURRENCIES = {
    "AED": "UAE dirham", "AFN": "afghani", "ALL": "lek", "AMD": "dram", "AOA": "kwanza",
    "ARS": "Argentine peso", "AUD": "Australian dollar", "AZN": "manat",
    "BAM": "convertible mark", "BBD": "Barbadian dollar", "BDT": "taka", "BGN": "Bulgarian lev",
    "BHD": "Bahraini dinar", "BIF": "Burundian franc", "BND": "Brunei dollar", "BOB": "boliviano",
    "BRL": "Brazilian real", "BSD": "Bahamian dollar", "BTN": "ngultrum", "BWP": "pula",
    "BYN": "Belarusian ruble", "BYR": "Belarusian ruble", "BZD": "Belize dollar",
    "CAD": "Canadian dollar", "CDF": "Congolese franc", "CHE": "Swiss franc",
    "CHF": "Swiss franc", "CLF": "Chilean peso", "CLP": "Chilean peso", "CNY": "yuan",
    "COP": "Colombian peso", "CRC": "Costa Rican colon", "CUC": "Cuban peso", "CUP": "Cuban peso",
    "CVE": "Cape Verdean escudo", "CZK": "Czech koruna", "DJF": "Djiboutian franc",
    "DKK": "Danish krone", "DOP": "Dominican peso", "DZD": "Algerian dinar",
    "EGP": "Egyptian pound", "ERN": "nakfa", "ETB": "birr", "EUR": "euro", "FJD": "Fijian dollar",
    "GBP": "pound sterling", "GEL": "lari", "GHS": "cedi", "GMD": "dalasi",
    "GNF": "Guinean franc", "GTQ": "quetzal", "GYD": "Guyanese dollar", "HNL": "lempira",
    "HRK": "Croatian kuna", "HTG": "gourde", "HUF": "forint", "IDR": "rupiah",
    "ILS": "Israeli shekel", "INR": "Indian rupee", "IQD": "Iraqi dinar", "IRR": "Iranian rial",
    "ISK": "Icelandic krona", "JMD": "Jamaican dollar", "JOD": "Jordanian dinar", "JPY": "yen",
    "KES": "Kenyan shilling", "KGS": "som", "KHR": "riel", "KMF": "Comorian franc",
    "KPW": "North Korean won", "KRW": "South Korean won", "KWD": "Kuwaiti dinar", "KZT": "tenge",
    "LAK": "kip", "LBP": "Lebanese pound", "LKR": "Sri Lankan rupee", "LRD": "Liberian dollar",
    "LSL": "loti", "LYD": "Libyan dinar", "MAD": "Moroccan dirham", "MDL": "Moldovan leu",
    "MGA": "ariary", "MKD": "denar", "MMK": "kyat", "MNT": "tugrik", "MRO": "ouguiya",
    "MUR": "Mauritian rupee", "MVR": "rufiyaa", "MWK": "Malawian kwacha", "MXN": "Mexican peso",
    "MYR": "ringgit", "MZN": "metical", "NAD": "Namibian dollar", "NGN": "naira",
    "NIO": "cordoba", "NOK": "Norwegian krone", "NPR": "Nepalese rupee",
    "NZD": "New Zealand dollar", "OMR": "Omani rial", "PAB": "balboa", "PEN": "sol",
    "PGK": "kina", "PHP": "Philippine peso", "PKR": "Pakistani rupee", "PLN": "zloty",
    "PYG": "guarani", "QAR": "Qatari riyal", "RON": "Romanian leu", "RSD": "Serbian dinar",
    "RUB": "Russian ruble", "RWF": "Rwandan franc", "SAR": "Saudi riyal",
    "SBD": "Solomon Islands dollar", "SCR": "Seychellois rupee", "SDG": "Sudanese pound",
    "SEK": "Swedish krona", "SGD": "Singapore dollar", "SLL": "leone", "SOS": "Somali shilling",
    "SRD": "Surinamese dollar", "SSP": "South Sudanese pound", "STD": "dobra",
    "SVC": "Salvadoran colon", "SYP": "Syrian pound", "SZL": "lilangeni", "THB": "baht",
    "TJS": "somoni", "TMT": "Turkmen manat", "TND": "Tunisian dinar", "TOP": "pa'anga",
    "TRY": "Turkish lira", "TTD": "Trinidad and Tobago dollar", "TZS": "Tanzanian shilling",
    "UAH": "hryvnia", "UGX": "Ugandan shilling", "USD": "US dollar", "UYI": "Uruguayan peso",
    "UYU": "Uruguayan peso", "UZS": "Uzbek som", "VEF": "bolivar", "VND": "dong", "VUV": "vatu",
    "WST": "tala", "XAF": "CFA franc", "XCD": "East Caribbean dollar",
    "XOF": "CFA franc", "YER": "Yemeni rial", "ZAR": "rand", "ZMK": "Zambian kwacha",
}  # fmt: skip

LANGUAGES = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian",
    "bg": "Bulgarian", "bi": "Bislama", "bn": "Bengali", "bs": "Bosnian", "ca": "Catalan",
    "cnr": "Montenegrin", "cs": "Czech", "da": "Danish", "de": "German", "dv": "Dhivehi",
    "dz": "Dzongkha", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian",
    "fa": "Persian", "fi": "Finnish", "fr": "French", "ga": "Irish", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
    "km": "Khmer", "ko": "Korean", "ky": "Kyrgyz", "lo": "Lao", "lt": "Lithuanian",
    "lv": "Latvian", "mk": "Macedonian", "mn": "Mongolian", "ms": "Malay", "mt": "Maltese",
    "my": "Burmese", "ne": "Nepali", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "ps": "Pashto", "pt": "Portuguese", "ro": "Romanian", "rs": "Serbian", "ru": "Russian",
    "rw": "Kinyarwanda", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian", "sm": "Samoan",
    "so": "Somali", "sq": "Albanian", "sv": "Swedish", "sw": "Swahili", "tg": "Tajik",
    "th": "Thai", "ti": "Tigrinya", "tk": "Turkmen", "tr": "Turkish", "uk": "Ukrainian",
    "uz": "Uzbek", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
