// API keys in the official JavaScript client of Phoenix, unchanged, against a server that asks for them.
// Run by test_access.py, which sets KOMA_URL and KOMA_API_KEY.
import assert from "node:assert/strict"
import { test } from "node:test"
import { Socket } from "phoenix"
import WebSocket from "ws"

const url = process.env.KOMA_URL.replace(/^http/, "ws") + "/socket"
const key = process.env.KOMA_API_KEY

function connect(t, options) {
  const socket = new Socket(url, { transport: WebSocket, reconnectAfterMs: () => 60_000, ...options })
  t.after(() => new Promise((resolve) => socket.disconnect(resolve)))
  const opened = new Promise((resolve, reject) => {
    socket.onOpen(resolve)
    socket.onError(reject)
  })
  socket.connect()
  return { socket, opened }
}

const right = { authToken: { authToken: key }, parameter: { params: { api_key: key } } }
const wrong = {
  "no key": {},
  "wrong authToken": { authToken: "koma_wrong" },
  "wrong parameter": { params: { api_key: "koma_wrong" } },
  "key in another parameter": { params: { token: key } },
}

for (const [name, options] of Object.entries(right)) {
  test(`a key as ${name} lets in`, async (t) => {
    const { socket, opened } = connect(t, options)
    await opened
    const joined = await new Promise((resolve, reject) => {
      socket.channel("jobs", {}).join().receive("ok", resolve).receive("error", reject)
    })
    assert.ok(joined.version)
  })
}

for (const [name, options] of Object.entries(wrong)) {
  test(`${name} is refused at the handshake`, async (t) => {
    const { opened } = connect(t, options)
    await assert.rejects(opened, (event) => /403/.test(event.message ?? String(event)))
  })
}
