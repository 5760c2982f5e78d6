"""The road itself: no-op jobs through Koma, and the same no-op through LitServe, Ray Serve and FastAPI.

section    the measurement, wired
websocket  jobs over one WebSocket, as clients do them
http       requests of any server, by wrk
rivals     the alternatives: how each is started; one small server each
breakdown  where the time of a job goes
"""
