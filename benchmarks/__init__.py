"""Speed, measured against floors and peers: ``make bench``."""
