"""The model node's side of the wire: bytes ⇄ frames ⇄ messages. Nothing here imports torch."""
