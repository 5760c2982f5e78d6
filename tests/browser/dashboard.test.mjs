// The dashboard in front of an operator, with the official client of Phoenix LiveView.
import assert from "node:assert/strict"
import { once } from "node:events"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { tmpdir } from "node:os"
import { test } from "node:test"
import { setTimeout as pause } from "node:timers/promises"
import WebSocket from "ws"
import { assertAccessible, openPage, screenshot } from "./harness/browser.mjs"
import { as, SECRETS, withKeys } from "./harness/keys.mjs"
import { server } from "./harness/suite.mjs"

const MANY = 200
// What Chromium itself says of a server that is not there.
const UNREACHABLE = [/WebSocket connection to .* failed/, /net::ERR_/]

// Two model nodes of the toy family, and one that runs all of MANY jobs at once.
const twoNodes = () => server("dashboard", { KOMA_MODELS: "toy:2" })
const manySlots = () => {
  const file = join(tmpdir(), `koma-many-slots-${process.pid}.exs`)
  writeFileSync(file, `[%{name: "toy", family: "toy", checkpoint: "toy", count: 1, slots: ${MANY}}]`)
  return server("many", { KOMA_MODELS: "all", KOMA_MODELS_FILE: file, KOMA_QUEUE_LIMIT: String(2 * MANY) })
}
const HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2<\/script>'

async function submit(url, params, more = {}, headers = {}) {
  const body = JSON.stringify({ task: "toy.run", params, ...more })
  const answer = await fetch(`${url}/v1/jobs`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body })
  assert.equal(answer.status, 202)
  return (await answer.json()).id
}

async function submitMany(url, count, params) {
  const ids = []
  for (let seed = 0; seed < count; seed++) ids.push(await submit(url, { ...params, seed }))
  return ids
}

async function cancelAll(url) {
  const jobs = await (await fetch(`${url}/v1/jobs?limit=1000`)).json()
  const live = jobs.filter(({ state }) => ["accepted", "queued", "running", "retrying"].includes(state))
  await Promise.all(live.map(({ id }) => fetch(`${url}/v1/jobs/${id}`, { method: "DELETE" })))
}

async function openDashboard(t, url, { path = "/dashboard", ...options } = {}) {
  const page = await openPage(t, url + path, options)
  await page.waitForSelector(".phx-connected")
  return page
}

// A dashboard without a browser around it, which would cost more than the server: joined as the client joins.
async function joinDashboard(url) {
  const answer = await fetch(`${url}/dashboard`)
  const html = await answer.text()
  const [, token] = html.match(/name="csrf-token" content="([^"]+)"/)
  const [, id, session] = html.match(/<div id="([^"]+)" data-phx-main data-phx-session="([^"]+)"/)
  const cookie = answer.headers.get("set-cookie").split(";")[0]
  const socket = new WebSocket(`${url.replace("http", "ws")}/live/websocket?vsn=2.0.0`, { headers: { cookie } })
  await once(socket, "open")
  const payload = { url: `${url}/dashboard`, session, static: null, params: { _csrf_token: token } }
  socket.send(JSON.stringify(["1", "1", `lv:${id}`, "phx_join", payload]))
  const [reply] = await once(socket, "message")
  assert.equal(JSON.parse(reply)[4].status, "ok")
  socket.on("message", (text) => {
    const [, , topic, event] = JSON.parse(text)
    if (event === "diff") socket.send(JSON.stringify(["1", "2", topic, "seen", {}]))
  })
  return socket
}

// The time on a core that a process took in a while (proc(5): utime and stime, in hundredths of a second), by that while.
async function cpuShare(pid, ms = 8000) {
  const taken = () => {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return (Number(fields[11]) + Number(fields[12])) / 100
  }
  const [before, since] = [taken(), performance.now()]
  await pause(ms)
  return ((taken() - before) * 1000) / (performance.now() - since)
}

// The value of a series of /metrics.
async function metric(url, series) {
  const text = await (await fetch(`${url}/metrics`)).text()
  const line = text.split("\n").find((line) => line.startsWith(`${series} `))
  assert.ok(line, `${series} in:\n${text}`)
  return Number(line.slice(series.length + 1))
}

// What an operator looks for stands in each panel.
async function assertTold(page) {
  const terms = (selector) => page.locator(selector).allTextContents()
  assert.deepEqual(await terms("#node-toy-1 dt"), ["family", "checkpoint", "device", "slots in use", "last batch", "memory", "restarts"])
  for (const fact of await terms("#node-toy-1 dd")) assert.notEqual(fact.trim(), "")
  assert.deepEqual((await terms("#queues thead th")).slice(0, 4), ["family", "waiting", "oldest wait", "by key"])
  assert.deepEqual(await terms("#filter label").then((labels) => labels.map((label) => label.trim().split(" ")[0])), ["state", "family", "key"])
  assert.ok((await page.locator("#rates svg path, #rates svg polyline").count()) >= 2, "charts")
  assert.match(await page.textContent("#rates caption"), /median · 95 % · 99 %/)
  assert.ok((await terms("#cache dt")).includes("hit rate"))
  const events = await terms("#job #events-scroll td:nth-of-type(3)")
  assert.deepEqual([events[0], events.at(-1)], ["queued", "failed"])
}

for (const [name, width, height, colorScheme] of [
  ["wide, light", 1920, 1080, "light"],
  ["laptop, dark", 1280, 800, "dark"],
  ["phone, light", 360, 780, "light"],
  ["phone, dark", 360, 780, "dark"],
]) {
  test(`every panel is there, is accessible, and fits: ${name}`, async (t) => {
    const { url } = await twoNodes()
    await submit(url, { steps: 2 })
    const failing = await submit(url, { steps: 2, fail: "step" })
    const page = await openDashboard(t, url, { path: `/dashboard?job=${failing}`, viewport: { width, height }, colorScheme })
    for (const id of ["nodes", "queues", "rates", "jobs", "job", "cache", "errors"]) {
      await page.waitForSelector(`#${id} :is(table, ul, dl, p)`)
    }
    await page.waitForSelector(`#errors-body a[href*="${failing}"]`)
    await page.waitForSelector("#job >> text=the toy was told to fail")
    await assertTold(page)
    await assertAccessible(page)
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width)
    await screenshot(page, `dashboard-${name.replace(", ", "-")}`, { fullPage: true })
  })
}

test("a killed model node turns red within 2 s, and green again", async (t) => {
  const it = await twoNodes()
  const page = await openDashboard(t, it.url)
  await page.waitForSelector("#node-toy-1.good")
  await page.evaluate(() => {
    window.seen = []
    const look = () => {
      const bad = document.querySelector(".card.bad") !== null
      if (window.seen.at(-1)?.bad !== bad) window.seen.push({ bad, at: Date.now() })
    }
    look()
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true })
  })
  const [victim] = it.modelNodes()
  const killed = Date.now()
  process.kill(victim.pid, "SIGKILL")
  await page.waitForFunction(() => window.seen.length >= 3)
  const [before, red, green] = await page.evaluate(() => window.seen)
  assert.deepEqual([before.bad, red.bad, green.bad], [false, true, false])
  assert.ok(red.at - killed < 2000, `red after ${red.at - killed} ms`)
  await page.waitForSelector("#errors-body >> text=model node died")
})

test(`${MANY} running jobs scroll and filter without a dropped update`, async (t) => {
  const { url } = await manySlots()
  t.after(() => cancelAll(url))
  const ids = await submitMany(url, MANY, { steps: 2000, step_ms: 100 })
  const watched = ids[0]
  const page = await openDashboard(t, url, { path: "/dashboard?state=running" })
  const sent = []
  const row = new RegExp(`id="row-${watched}".*?(\\d+)/2000`, "s")
  const diffs = []
  page.on("websocket", (socket) =>
    socket.on("framereceived", ({ payload }) => {
      const [, , , event, content] = JSON.parse(payload)
      if (event === "diff") diffs.push(Date.now())
      const panels = event === "diff" ? content : content.response?.rendered ?? {}
      for (const html of Object.values(panels)) {
        const step = typeof html === "string" && html.match(row)?.[1]
        if (step) sent.push(Number(step))
      }
    }),
  )
  await page.addInitScript((id) => {
    window.shown = []
    const look = () => {
      const step = document.getElementById(`row-${id}`)?.textContent.match(/(\d+)\/2000/)?.[1]
      if (step && window.shown.at(-1) !== Number(step)) window.shown.push(Number(step))
    }
    document.addEventListener("DOMContentLoaded", () => {
      look()
      new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true })
    })
  }, watched)
  await page.reload()
  await page.waitForSelector(".phx-connected")
  await page.waitForFunction((many) => document.querySelectorAll("#jobs tbody tr").length === many, MANY)
  for (const top of [400, 3000, 100000, 0, 2500]) {
    await page.evaluate((top) => document.getElementById("jobs-scroll").scrollTo(0, top), top)
    const wanted = await page.evaluate(() => document.getElementById("jobs-scroll").scrollTop)
    const count = await page.evaluate(() => window.shown.length)
    await page.waitForFunction((count) => window.shown.length > count + 2, count)
    assert.equal(await page.evaluate(() => document.getElementById("jobs-scroll").scrollTop), wanted)
  }
  await page.selectOption("select[name=state]", "queued")
  await page.waitForSelector("#jobs >> text=No such jobs")
  await page.selectOption("select[name=state]", "live")
  await page.waitForFunction((many) => document.querySelectorAll("#jobs tbody tr").length === many, MANY)
  await page.waitForURL(/state=live/)
  const mark = await page.evaluate(() => window.shown.length)
  await page.waitForFunction((mark) => window.shown.length > mark + 5, mark)
  const shown = await page.evaluate(() => window.shown)
  const distinct = sent.filter((step, n) => step !== sent[n - 1])
  // The first was in the page before the client joined.
  const updates = distinct.filter((step) => step >= shown[0] && step <= shown.at(-1))
  assert.deepEqual(shown.filter((step) => step >= updates[0]), updates)
  assert.ok(updates.length > 15, `${updates.length} updates`)
  // Besides those that answer somebody.
  const rate = (1000 * (diffs.length - 1)) / (diffs.at(-1) - diffs[0])
  assert.ok(rate < 6, `${rate.toFixed(1)} updates a second`)
  await screenshot(page, "dashboard-many")
})

test("ten open dashboards cost the server less than 2 % of a core each while 200 jobs run", async (t) => {
  const it = await manySlots()
  t.after(() => cancelAll(it.url))
  await submitMany(it.url, MANY, { steps: 10000, step_ms: 200 })
  const alone = await cpuShare(it.process.pid)
  const sockets = await Promise.all(Array.from({ length: 10 }, () => joinDashboard(it.url)))
  t.after(() => sockets.forEach((socket) => socket.close()))
  const open = await cpuShare(it.process.pid)
  const each = (open - alone) / sockets.length
  t.diagnostic(`${(100 * each).toFixed(2)} % of a core each`)
  assert.ok(each < 0.02, `${(100 * each).toFixed(2)} % of a core each`)
})

test("the numbers agree with /metrics", async (t) => {
  const { url } = await twoNodes()
  await fetch(`${url}/v1/admin/queues/toy/pause`, { method: "POST" })
  t.after(() => fetch(`${url}/v1/admin/queues/toy/resume`, { method: "POST" }))
  t.after(() => cancelAll(url))
  const same = { steps: 3, seed: 7 }
  await submit(url, same)
  await submitMany(url, 4, { steps: 5 })
  const page = await openDashboard(t, url)
  await page.waitForSelector("#queue-toy >> text=paused")
  const text = (selector) => page.textContent(selector)
  const waiting = await metric(url, `koma_queue_jobs{family="toy"}`)
  assert.ok(waiting > 0)
  await page.waitForFunction((n) => document.querySelector("#queue-toy [data-metric=waiting]").textContent === String(n), waiting)
  assert.equal(await metric(url, `koma_queue_paused{family="toy"}`), 1)
  for (const node of ["toy-1", "toy-2"]) {
    const labels = `{family="toy",node="${node}"}`
    assert.equal(Number((await text(`#node-${node} [data-metric=running]`)).split("/")[0]), await metric(url, `koma_model_node_running${labels}`))
  }
  const restarts = (await text("#node-toy-1 [data-metric=restarts]")) + (await text("#node-toy-2 [data-metric=restarts]"))
  const counted = (await (await fetch(`${url}/metrics`)).text()).matchAll(/^koma_model_node_restarts_total\{[^}]*\} (\d+)$/gm)
  assert.equal([...restarts].reduce((sum, n) => sum + Number(n), 0), [...counted].reduce((sum, [, n]) => sum + Number(n), 0))
  for (const name of ["miss", "hit"]) {
    const shown = await text(`#cache [data-metric=${{ miss: "misses", hit: "hits" }[name]}]`)
    assert.equal(Number(shown), await metric(url, `koma_cache_requests_total{result="${name}"}`).catch(() => 0))
  }
})

test("an action is confirmed with the keyboard, done, and told; Escape leaves it", async (t) => {
  const { url } = await twoNodes()
  const page = await openDashboard(t, url)
  const button = page.getByRole("button", { name: "Drain toy-2" })
  await button.focus()
  await page.keyboard.press("Enter")
  await page.waitForSelector("#dialog")
  await assertAccessible(page)
  await screenshot(page, "dashboard-dialog")
  await page.keyboard.press("Escape")
  await page.waitForSelector("#dialog", { state: "detached" })
  await page.waitForFunction(() => document.activeElement?.ariaLabel === "Drain toy-2")
  await page.keyboard.press("Enter")
  await page.waitForSelector("#dialog")
  await page.waitForFunction(() => document.activeElement?.textContent === "Drain")
  await page.keyboard.press("Enter")
  await page.waitForSelector(".notice.good")
  await page.waitForSelector("#node-toy-2[data-state=drained]")
  await page.getByRole("button", { name: "Resume toy-2" }).click()
  await page.locator("#dialog button.strong").click()
  await page.waitForSelector("#node-toy-2[data-state=ready]")
  await page.getByRole("button", { name: "Load… toy-2" }).click()
  await page.fill("#dialog input", "toy-two")
  await page.locator("#dialog button.strong").click()
  await page.waitForSelector("#node-toy-2[data-state=ready] >> text=toy-two")
})

test("a job is found, opened, read and cancelled", async (t) => {
  const { url } = await twoNodes()
  t.after(() => cancelAll(url))
  const id = await submit(url, { steps: 2000, step_ms: 50, tokens: true })
  const page = await openDashboard(t, url)
  await page.click(`#row-${id} a`)
  await page.waitForURL((address) => address.searchParams.get("job") === id)
  await page.waitForSelector("#job #events-scroll >> text=progress")
  await page.locator("#job").getByRole("button", { name: `Cancel ${id}` }).click()
  await page.locator("#dialog button.strong").click()
  await page.waitForSelector("#job .section-head >> text=cancelled")
  await page.goBack()
  await page.waitForSelector("#job h2", { state: "detached" })
})

test("the page comes back after a restart of the server, without a click, and shows the same", async (t) => {
  const it = await server("restarted", { KOMA_MODELS: "toy" })
  const page = await openDashboard(t, it.url, { path: "/dashboard?state=failed", expected: UNREACHABLE })
  const failing = await submit(it.url, { steps: 2, fail: "step" })
  await page.waitForSelector(`#row-${failing}`)
  await it.kill()
  await page.waitForSelector(".phx-error .lost:visible")
  await it.start()
  await page.waitForSelector(".phx-connected #node-toy-1.good")
  await page.waitForSelector(`#row-${failing}`)
  assert.equal(await page.inputValue("select[name=state]"), "failed")
  assert.equal(await page.isVisible(".lost"), false)
})

async function logIn(t, url, options = {}) {
  const page = await openPage(t, `${url}/dashboard`, options)
  await page.fill("input[name=key]", SECRETS.boss)
  await page.click("button")
  await page.waitForSelector(".phx-connected #node-toy-1")
  return page
}

test("where keys are configured the dashboard asks for that of an operator, and takes no other", async (t) => {
  const { url } = await withKeys()
  const page = await openPage(t, `${url}/dashboard`, { expected: [/status of 401/, /status of 403/] })
  await page.waitForURL(/login/)
  await assertAccessible(page)
  for (const [wrong, words] of [["wrong", /not known/], ["<script>alert(1)</script>", /not known/], ["x".repeat(10_000), /not known/], [SECRETS.ann, /role operator/]]) {
    await page.fill("input[name=key]", wrong)
    await page.click("button")
    await page.getByRole("alert").getByText(words).waitFor()
  }
  await screenshot(page, "dashboard-login")
  await page.fill("input[name=key]", SECRETS.boss)
  await page.click("button")
  await page.waitForSelector(".phx-connected #node-toy-1")
  const cookies = await page.context().cookies()
  assert.deepEqual(cookies.map(({ httpOnly, sameSite }) => [httpOnly, sameSite]), [[true, "Strict"]])
})

test("jobs are filtered by key and family, queues tell whose jobs wait, and what they say is nobody's business", async (t) => {
  const { url } = await withKeys()
  const page = await logIn(t, url)
  const pause = (what) => fetch(`${url}/v1/admin/queues/toy/${what}`, { method: "POST", headers: as("boss") })
  await pause("pause")
  t.after(() => pause("resume"))
  const ids = { ann: [], ben: [] }
  for (const [id, seeds] of [["ann", [1, 2, 3]], ["ben", [4]]]) {
    for (const seed of seeds) ids[id].push(await submit(url, { steps: 2, seed }, {}, as(id)))
    t.after(() => Promise.all(ids[id].map((job) => fetch(`${url}/v1/jobs/${job}`, { method: "DELETE", headers: as(id) }))))
  }
  await page.waitForSelector("#queue-toy >> text=/ann 3/")
  await page.waitForSelector("#queue-toy >> text=/ben 1/")
  await page.waitForFunction(() => /^[1-9]\d* s$/.test(document.querySelector("#queue-toy td:nth-of-type(2)").textContent), null)
  await page.selectOption("select[name=key]", "ben")
  await page.waitForFunction((ids) => [...document.querySelectorAll("#jobs tbody tr")].map(({ id }) => id).join() === ids, `row-${ids.ben[0]}`)
  await page.selectOption("select[name=key]", "ann")
  await page.waitForFunction(() => document.querySelectorAll("#jobs tbody tr").length === 3)
  await page.selectOption("select[name=family]", "toy")
  await page.waitForURL(/family=toy/)
  assert.equal(await page.locator("#jobs tbody tr").count(), 3)
})

test("a restart of the server logs no operator out: the page comes back without a click", async (t) => {
  const it = await withKeys()
  const page = await logIn(t, it.url, { expected: UNREACHABLE })
  await it.kill()
  await page.waitForSelector(".phx-error .lost:visible")
  await it.start()
  await page.waitForSelector(".phx-connected #node-toy-1.good")
  await page.reload()
  await page.waitForSelector(".phx-connected #node-toy-1")
})

// Answers the question that a button asks.
async function confirm(page, name, fill) {
  await page.getByRole("button", { name, exact: true }).click()
  await page.waitForSelector("#dialog")
  if (fill !== undefined) await page.fill("#dialog input", fill)
  await page.locator("#dialog button.strong").click()
}

test("a queue is paused and goes on, a model node is restarted, a checkpoint unloaded and loaded", async (t) => {
  const { url } = await twoNodes()
  const page = await openDashboard(t, url)
  await confirm(page, "Pause toy")
  await page.waitForSelector("#queue-toy >> text=paused")
  await confirm(page, "Resume toy")
  await page.waitForSelector("#queue-toy >> text=open")
  const restarts = async () => Number(await page.textContent("#node-toy-1 [data-metric=restarts]"))
  const before = await restarts()
  await confirm(page, "Restart toy-1")
  await page.waitForFunction((before) => Number(document.querySelector("#node-toy-1 [data-metric=restarts]").textContent) === before + 1, before)
  await page.waitForSelector("#node-toy-1[data-state=ready]")
  await confirm(page, "Unload toy-1")
  await page.waitForSelector("#node-toy-1[data-state=unloaded]")
  await confirm(page, "Load… toy-1", "toy")
  await page.waitForSelector("#node-toy-1[data-state=ready]")
})

test("what cannot be loaded is said in words; hostile names are shown as text", async (t) => {
  const { url } = await twoNodes()
  const page = await openDashboard(t, url, { path: `/dashboard?job=${encodeURIComponent(HOSTILE)}&key=${encodeURIComponent(HOSTILE)}` })
  await page.waitForSelector("#job code")
  assert.equal(await page.textContent("#job code"), HOSTILE)
  assert.equal(await page.inputValue("select[name=key]"), HOSTILE)
  await confirm(page, "Load… toy-2", " ".repeat(3))
  await page.locator(".notice.bad", { hasText: "A checkpoint has a name of 1 to 1024 characters." }).waitFor()
  await confirm(page, "Load… toy-2", HOSTILE)
  // The toy loads whatever it is told to.
  await page.waitForFunction((text) => document.querySelector("#node-toy-2[data-state=ready] div:nth-of-type(2) dd")?.textContent === text, HOSTILE)
  assert.equal(await page.locator("[onerror], main script").count(), 0)
  await assertAccessible(page)
})
