// The life of a job as the page shows it: the wait, the cancel, the reload, several tabs. With the toy family, whose steps last as long as asked.
import assert from "node:assert/strict"
import { writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { test } from "node:test"
import { openTab, screenshot } from "./harness/browser.mjs"
import { ask, assertGapless, completed, current, jobs, jobState, listen, newest, openStudio, state } from "./harness/studio.mjs"
import { server, toyServer } from "./harness/suite.mjs"

const GRACE = 2_000 // ms
const MODELS = join(tmpdir(), `koma-models-${process.pid}.exs`)
writeFileSync(MODELS, '[%{name: "toy", family: "toy", checkpoint: "toy", count: 1, slots: 1}]')

// One slot, two places in the queue.
const narrowServer = () => server("narrow", { KOMA_MODELS_FILE: MODELS, KOMA_MODELS: "all", KOMA_QUEUE_LIMIT: "2" })
const impatientServer = () => server("impatient", { KOMA_MODELS: "toy", KOMA_ABSENCE_MS: String(GRACE) })

async function run(page, { steps = 4, step_ms = 0, ...params }) {
  const view = current(page)
  await view.getByLabel("Steps", { exact: true }).fill(String(steps))
  await view.getByLabel("Step ms").fill(String(step_ms))
  for (const [label, value] of Object.entries(params)) await view.getByLabel(label, { exact: true }).fill(String(value))
  await view.getByRole("button", { name: "Run" }).click()
}

test("a family that the page does not know has a tool of its own, made from its schema", async (t) => {
  const { url } = await toyServer()
  const page = await openStudio(t, url, "toy.run")
  await page.getByRole("link", { name: "Toy run" }).waitFor()
  const view = current(page)
  assert.equal(await view.getByLabel("Tokens").getAttribute("type"), "checkbox")
  assert.equal(await view.getByLabel("Fail", { exact: true }).isVisible(), false, "it is folded away")
  await view.getByLabel("Tokens").check()
  await run(page, { steps: 5 })
  const job = await completed(page)
  assert.notEqual(await job.locator(".answer").textContent(), "")
  await job.getByText("AI-generated").waitFor()
})

test("step, total and time left are shown; a cancel frees the machine", async (t) => {
  const { url } = await toyServer()
  const page = await openStudio(t, url, "toy.run")
  await run(page, { steps: 2000, step_ms: 20 })
  await newest(page).getByText(/^Step \d+ of 2000 · about \d+ (s|min) left$/).waitFor()
  const [{ id }] = await jobs(url)
  await newest(page).getByRole("button", { name: "Cancel" }).click()
  await state(newest(page), "cancelled").waitFor()
  assert.equal((await ask(url, `/v1/jobs/${id}`)).state, "cancelled")
  await newest(page).getByRole("button", { name: "Dismiss" }).click()
  await current(page).getByText("The result appears here.").waitFor()
})

test("who waits sees the place in the queue; a full queue counts down and offers to try again", async (t) => {
  const { url } = await narrowServer()
  const page = await openStudio(t, url, "toy.run")
  // How long one waits is known once somebody has waited.
  const running = state(current(page).locator("article.job"), "running")
  await run(page, { steps: 10_000, step_ms: 20 })
  await running.waitFor()
  await run(page, { steps: 1 })
  await newest(page).getByText("Number 1 in the queue").waitFor()
  await running.getByRole("button", { name: "Cancel" }).click()
  await completed(page)
  await run(page, { steps: 10_000, step_ms: 20 })
  await running.waitFor()
  await run(page, { steps: 1 })
  await newest(page).getByText(/^Number 1 in the queue · starts in about \d+ (s|min)$/).waitFor()
  await newest(page).getByRole("button", { name: "Cancel" }).click()
  await state(newest(page), "cancelled").waitFor()
  for (const place of [1, 2]) {
    await run(page, { steps: 1 })
    await newest(page).getByText(`Number ${place} in the queue`).waitFor()
  }
  await run(page, { steps: 3 })
  const again = current(page).getByRole("button", { name: "Try again" })
  await current(page).getByText("The queue is full at the moment.").waitFor()
  await current(page).getByText(/^You can try again in \d+ s\.$/).waitFor()
  assert.equal(await again.isDisabled(), true)
  await screenshot(page, "queue-full")
  await running.getByRole("button", { name: "Cancel" }).click()
  await again.click() // waits until it is enabled
  await completed(page)
})

test("a reload finds the running job again, and misses none of its events", async (t) => {
  const { url } = await toyServer()
  let sockets
  const page = await openStudio(t, url, "toy.run", { prepare: (page) => (sockets = listen(page, (topic) => topic.startsWith("job:"))) })
  await run(page, { steps: 250, step_ms: 20 })
  await newest(page).getByText(/^Step ([5-9]|\d\d+) of/).waitFor()
  await page.reload()
  await completed(page)
  assert.equal(sockets.length, 2)
  assertGapless(sockets[1])
})

test("two tabs on one job see the same events; closing one changes nothing, closing both cancels the job after the grace period", async (t) => {
  const { url } = await impatientServer()
  const about = (topic) => topic.startsWith("job:")
  let one, two
  const page = await openStudio(t, url, "toy.run", { prepare: (page) => (one = listen(page, about)) })
  await run(page, { steps: 10_000, step_ms: 20 })
  await newest(page).getByText(/^Step \d+ of/).waitFor()
  const [{ id }] = await jobs(url)
  const tab = await openTab(t, page.context(), `${url}/#job/${id}`, { prepare: (page) => (two = listen(page, about)) })
  await newest(tab).getByText(/^Step \d\d+ of/).waitFor()
  assertGapless(one.flat())
  assertGapless(two.flat())

  await page.close()
  await pause(GRACE * 1.5) // nothing happens, which takes its time to see
  assert.equal((await ask(url, `/v1/jobs/${id}`)).state, "running")
  await tab.close()
  await jobState(url, id, "cancelled")
})
