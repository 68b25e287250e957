"""How times are written where a template names no format, which is the admin: as everywhere else on the site."""

DATETIME_FORMAT = "Y-m-d H:i:s"
DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
