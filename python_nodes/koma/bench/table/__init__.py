"""The three-model table: all requests at once to Koma, against a plain script, one request after another."""
