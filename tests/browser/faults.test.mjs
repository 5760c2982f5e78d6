// The server dies, a model node dies: the page tells, and the job ends where it began.
import assert from "node:assert/strict"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { assertGapless, completed, current, listen, newest, openStudio } from "./harness/studio.mjs"
import { fullServer } from "./harness/suite.mjs"

// What Chromium itself writes to the console when a server is gone; no page can keep it from that.
const GONE = [/WebSocket connection to .* failed/, /Failed to load resource: net::ERR_CONNECTION_REFUSED/]

async function film(page, steps) {
  const view = current(page)
  await view.getByLabel("Prompt", { exact: true }).fill("a long film")
  await view.getByLabel("Frames", { exact: true }).selectOption("33")
  await view.getByLabel("Steps").fill(String(steps))
  await view.getByRole("button", { name: "Make the video" }).click()
  await newest(page).getByText(/^Step ([3-9]|\d\d+) of/).waitFor()
}

test("a model node that is killed: the page shows the retry, then the result", async (t) => {
  const server = await fullServer()
  const page = await openStudio(t, server.url, "video")
  await film(page, 60)
  for (const { pid } of server.modelNodes()) process.kill(pid, "SIGKILL")
  await newest(page).getByText(/The model stopped while it worked on this\. It runs again.*\(attempt 2\)/).waitFor()
  await screenshot(page, "retrying")
  const job = await completed(page)
  await job.locator("video").waitFor()
})

test("a server that is killed in the middle of a video: the page says so, reconnects, and the same job ends on it", async (t) => {
  const server = await fullServer()
  let sockets
  const prepare = (page) => (sockets = listen(page, (topic) => topic.startsWith("job:")))
  const page = await openStudio(t, server.url, "video", { expected: GONE, prepare })
  await film(page, 60)
  await server.kill()
  await page.getByText("The connection to the server is lost.").waitFor()
  await page.getByText("Reconnecting", { exact: true }).waitFor()
  await assertAccessible(page)
  await screenshot(page, "connection-lost")
  await server.start()
  await page.getByText("Connected", { exact: true }).waitFor()
  assert.equal(await page.getByText("The connection to the server is lost.").isVisible(), false)
  await newest(page).getByText(/The model stopped|Number \d+ in the queue|Getting ready|Waiting for the model/).first().waitFor()
  const job = await completed(page)
  await job.locator("video").waitFor()
  assertGapless(sockets.flat())
})
