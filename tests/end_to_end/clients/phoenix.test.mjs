// The official JavaScript client of Phoenix (npm phoenix, with ws) against a running server, unchanged.
// Run by test_phoenix_javascript.py, which sets KOMA_URL.
import assert from "node:assert/strict"
import { once } from "node:events"
import { test } from "node:test"
import { Socket } from "phoenix"
import WebSocket from "ws"

const url = process.env.KOMA_URL.replace(/^http/, "ws") + "/socket"

function connect(t, options = {}) {
  const socket = new Socket(url, { transport: WebSocket, ...options })
  t.after(() => new Promise((resolve) => socket.disconnect(resolve)))
  socket.connect()
  return socket
}

// A push or a join as a promise of its "ok", rejected with the response of its "error".
function answer(push) {
  return new Promise((resolve, reject) => {
    push.receive("ok", resolve)
    push.receive("error", reject)
    push.receive("timeout", () => reject(new Error("timeout")))
  })
}

// Everything that a channel hears, as {event, payload}, and a promise of the first that fits.
function listen(channel) {
  const heard = []
  const waiting = new Set()
  channel.onMessage = (event, payload) => {
    if (!event.startsWith("chan_reply_")) heard.push({ event, payload })
    for (const check of waiting) check()
    return payload
  }
  const until = (fits) =>
    new Promise((resolve) => {
      const check = () => {
        const found = heard.find(fits)
        if (found) {
          waiting.delete(check)
          resolve(found)
        }
      }
      waiting.add(check)
      check()
    })
  return { heard, until }
}

const named = (name) => ({ event }) => event === name
const numbered = (heard) => heard.filter(({ payload }) => payload && payload.seq).map(({ payload }) => payload.seq)
const range = (n) => Array.from({ length: n }, (_, i) => i + 1)

async function jobs(socket) {
  const channel = socket.channel("jobs", {})
  const welcome = await answer(channel.join())
  const submit = (params, more = {}) =>
    answer(channel.push("submit", { task: "toy.run", on_disconnect: "keep", params, ...more }))
  return { channel, welcome, submit }
}

function follow(socket, id, params = {}) {
  const channel = socket.channel(`job:${id}`, params)
  return { channel, ...listen(channel) }
}

test("a join of jobs tells the version and the limits", async (t) => {
  const { welcome } = await jobs(connect(t))
  assert.match(welcome.version, /^\d+\.\d+\.\d+$/)
  assert.equal(welcome.limits.frame_bytes, 8 * 1024 * 1024)
})

test("a job tells every event once, in order, and ends with its result", async (t) => {
  const socket = connect(t)
  const { submit } = await jobs(socket)
  const job = await submit({ steps: 5, step_ms: 5, tokens: true })
  const { channel, heard, until } = follow(socket, job.id)
  const joined = await answer(channel.join())
  assert.equal(joined.job.id, job.id)
  const { payload } = await until(named("completed"))
  assert.deepEqual(numbered(heard), range(payload.seq))
  assert.equal(heard.filter(named("token")).length, 5)
  assert.equal(payload.outputs[0].name, "result")
})

test("previews come as binary frames or as base64, with the same bytes, or not at all", async (t) => {
  const [one, two, three] = [connect(t), connect(t), connect(t)]
  const { submit } = await jobs(one)
  const job = await submit({ steps: 40, step_ms: 10, preview_bytes: 3000 })
  const binary = follow(one, job.id, { previews: "binary" })
  const base64 = follow(two, job.id, { previews: "base64" })
  const none = follow(three, job.id, { previews: "none" })
  await Promise.all([binary, base64, none].map(({ channel }) => answer(channel.join())))
  await Promise.all([binary, base64, none].map(({ until }) => until(named("completed"))))

  const parsed = binary.heard.filter(named("preview")).map(({ payload }) => {
    assert.ok(payload instanceof ArrayBuffer)
    const size = new DataView(payload).getUint32(0)
    const header = JSON.parse(Buffer.from(payload, 4, size).toString())
    return { ...header, data: Buffer.from(payload, 4 + size).toString("base64") }
  })
  const texts = base64.heard.filter(named("preview")).map(({ payload }) => payload)
  assert.ok(parsed.length > 0 && texts.length > 0)
  const bySteps = new Map(texts.map((preview) => [preview.step, preview]))
  const both = parsed.filter(({ step }) => bySteps.has(step))
  assert.ok(both.length > 0)
  for (const preview of both) assert.deepEqual(preview, bySteps.get(preview.step))
  assert.equal(none.heard.filter(named("preview")).length, 0)
})

test("a cancel ends the job, and a second one is harmless", async (t) => {
  const socket = connect(t)
  const { channel: lobby, submit } = await jobs(socket)
  const job = await submit({ steps: 10000, step_ms: 20 })
  const { channel, until } = follow(socket, job.id)
  await answer(channel.join())
  await until(named("progress"))
  assert.deepEqual(await answer(channel.push("cancel", {})), {})
  const { payload } = await until(named("cancelled"))
  assert.equal(payload.code, "cancelled")
  assert.deepEqual(await answer(lobby.push("cancel", { id: job.id })), {})
})

test("heartbeats are answered, so the socket stays open", async (t) => {
  const socket = connect(t, { heartbeatIntervalMs: 500 })
  await new Promise((resolve) => socket.onOpen(resolve))
  let closed = false
  socket.onClose(() => (closed = true))
  let answers = 0
  await new Promise((resolve) =>
    socket.onMessage(({ topic, event, payload }) => {
      if (topic !== "phoenix") return
      assert.equal(event, "phx_reply")
      assert.equal(payload.status, "ok")
      if (++answers === 4) resolve()
    }),
  )
  assert.equal(closed, false)
})

test("after a lost connection the client joins again and misses nothing", async (t) => {
  const socket = connect(t, { reconnectAfterMs: () => 20, rejoinAfterMs: () => 20 })
  const { submit } = await jobs(socket)
  const job = await submit({ steps: 60, step_ms: 10 })
  let last = 0
  const { channel, heard, until } = follow(socket, job.id, () => ({ after: last }))
  const keep = channel.onMessage
  channel.onMessage = (event, payload) => {
    if (payload && payload.seq) last = payload.seq
    return keep(event, payload)
  }
  await answer(channel.join())
  for (const step of [5, 20]) {
    await until(({ event, payload }) => event === "progress" && payload.step >= step)
    const opened = new Promise((resolve) => socket.onOpen(resolve))
    socket.conn.terminate()
    await opened
  }
  const { payload } = await until(named("completed"))
  assert.deepEqual(numbered(heard), range(payload.seq))
})

test("a topic joined twice closes the first and serves the second", async (t) => {
  const socket = connect(t)
  const { submit } = await jobs(socket)
  const job = await submit({ steps: 30, step_ms: 10 })
  const first = follow(socket, job.id)
  await answer(first.channel.join())
  const closed = new Promise((resolve) => first.channel.onClose(resolve))
  const second = follow(socket, job.id)
  await answer(second.channel.join())
  await closed
  const { payload } = await second.until(named("completed"))
  assert.deepEqual(numbered(second.heard), range(payload.seq))
})

test("a raw second join of the same topic gets phx_close with the old join_ref first", async (t) => {
  const raw = new WebSocket(url + "/websocket?vsn=2.0.0")
  t.after(() => raw.terminate())
  await once(raw, "open")
  const got = []
  raw.on("message", (data) => got.push(JSON.parse(data)))
  raw.send('["1","1","jobs","phx_join",{}]')
  raw.send('["2","2","jobs","phx_join",{}]')
  while (!got.some(([, ref]) => ref === "2")) await once(raw, "message")
  const close = got.findIndex(([, , , event]) => event === "phx_close")
  assert.deepEqual(got[close].slice(0, 4), ["1", "1", "jobs", "phx_close"])
  assert.equal(got.at(-1)[1], "2")
  assert.equal(got.at(-1)[4].status, "ok")
})

test("a token goes by in the subprotocol header, and the server takes the protocol phoenix", async (t) => {
  const socket = connect(t, { authToken: "token-of.A_user-1" })
  const { welcome } = await jobs(socket)
  assert.ok(welcome.version)
  assert.equal(socket.conn.protocol, "phoenix")
})

test("an unknown topic is refused with a code and the other topics go on", async (t) => {
  const socket = connect(t)
  const { submit } = await jobs(socket)
  const lobby = socket.channel("room:lobby", {})
  const refusal = await answer(lobby.join()).catch((response) => response)
  lobby.leave()
  assert.equal(refusal.code, "unknown_topic")
  assert.ok(refusal.reason)
  assert.ok((await submit({ steps: 1 })).id)
})

test("join parameters of the wrong type or out of bounds are refused with field and value", async (t) => {
  const socket = connect(t)
  const { submit } = await jobs(socket)
  const job = await submit({ steps: 1 })
  const cases = [
    [{ after: "3" }, "wrong_type", "after"],
    [{ after: -1 }, "out_of_bounds", "after"],
    [{ previews: "gif" }, "invalid_value", "previews"],
    [{ afetr: 1 }, "unknown_field", "afetr"],
  ]
  for (const [params, code, field] of cases) {
    const channel = socket.channel(`job:${job.id}`, params)
    const refusal = await answer(channel.join()).catch((response) => response)
    channel.leave()
    assert.deepEqual([refusal.code, refusal.field], [code, field])
  }
})

test("a binary push is refused with a code and the topic goes on", async (t) => {
  const socket = connect(t)
  const { channel, submit } = await jobs(socket)
  const bytes = new Uint8Array([1, 2, 3]).buffer
  const refusal = await answer(channel.push("submit", bytes)).catch((response) => response)
  assert.equal(refusal.code, "wrong_type")
  assert.ok((await submit({ steps: 1 })).id)
})

test("after leaving a topic nothing of it comes any more", async (t) => {
  const socket = connect(t)
  const { submit } = await jobs(socket)
  const job = await submit({ steps: 50, step_ms: 10 })
  const { channel, until } = follow(socket, job.id)
  await answer(channel.join())
  await until(named("progress"))
  const late = []
  const closed = new Promise((resolve) =>
    socket.onMessage(({ topic, event }) => {
      if (topic !== channel.topic) return
      if (event === "phx_close") resolve(late.splice(0))
      else late.push(event)
    }),
  )
  channel.leave()
  await closed
  const again = follow(connect(t), job.id)
  await answer(again.channel.join())
  await again.until(named("completed"))
  assert.deepEqual(late, [])
})

test("a pipeline tells what happens in its stages and ends with its outputs", async (t) => {
  const socket = connect(t)
  const { channel: lobby } = await jobs(socket)
  const stages = [
    { name: "one", task: "toy.run", params: { steps: 3, output_bytes: 50000 } },
    { name: "two", task: "toy.run", params: { steps: 3, preview_bytes: 500, step_ms: 20 }, inputs: { file: { from: "one.result" } } },
  ]
  const pipeline = await answer(lobby.push("submit_pipeline", { stages }))
  const channel = socket.channel(`pipeline:${pipeline.id}`, {})
  const { heard, until } = listen(channel)
  await answer(channel.join())
  const { payload } = await until(named("completed"))
  assert.deepEqual(numbered(heard), range(payload.seq))
  assert.deepEqual(Object.keys(payload.outputs).sort(), ["one.result", "two.result"])
  for (const { payload } of heard.filter(named("preview"))) assert.equal(payload.stage, "two")
})
