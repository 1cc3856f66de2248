"""One continual run as a whole: tables, figures and a page to look at."""
