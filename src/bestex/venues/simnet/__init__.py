"""The simulated world behind a socket: its server, and the adapters of the ports that speak to it.

One WebSocket a client. Each message is a batch: all calls, or all answers and news, of one turn of the sender's loop.
"""
