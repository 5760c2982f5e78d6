"""`koma evaluate`: how good the checkpoints are, measured against the truth of Emoji World."""
