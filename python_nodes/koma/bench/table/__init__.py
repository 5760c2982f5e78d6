"""The three-model table: all requests at once to Koma, against a plain script that runs them one after another."""
