// The story: one video in, three results out, each stage visible as it runs.
import assert from "node:assert/strict"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { ask, assertGapless, CLIP, completed, current, jobState, listen, openStudio, recorded, state } from "./harness/studio.mjs"
import { fullServer } from "./harness/suite.mjs"

const stages = (page) => current(page).locator(".story article.job")

async function tell(page) {
  await current(page).locator("input[type=file]").setInputFiles(CLIP)
  await current(page).getByRole("button", { name: "Tell the story" }).click()
}

test("a video becomes a caption, an image and a video; a reload finds them again", async (t) => {
  const { url } = await fullServer()
  let sockets
  const prepare = (page) => (sockets = listen(page, (topic) => topic.startsWith("pipeline:")))
  const page = await openStudio(t, url, "story", { viewport: { width: 1920, height: 1080 }, prepare })
  await tell(page)
  for (const index of [0, 1, 2]) await completed(page, stages(page).nth(index))
  const { lengths, previews } = await recorded(page)
  assert.ok(lengths.length >= 3)
  assert.ok(previews >= 8, `${previews} previews in two stages`)
  assertGapless(sockets.flat())
  const player = stages(page).nth(2).locator("video")
  await player.evaluate((video) => video.play())
  assert.ok((await player.evaluate(({ duration }) => duration)) > 1)
  await assertAccessible(page)
  await screenshot(page, "story", { fullPage: true })

  const caption = await stages(page).nth(0).locator(".answer").textContent()
  await page.reload()
  for (const index of [0, 1, 2]) await completed(page, stages(page).nth(index))
  assert.equal(await stages(page).nth(0).locator(".answer").textContent(), caption)
})

test("a reload in the middle of a story finds its stages again, and closing the tab cancels it with the job of its stage", async (t) => {
  const { url } = await fullServer()
  // The video waits, so that the story is not over before the tab is closed.
  const queue = (what) => fetch(`${url}/v1/admin/queues/ltx_video/${what}`, { method: "POST" })
  await queue("pause")
  t.after(() => queue("resume"))
  let sockets
  const prepare = (page) => (sockets = listen(page, (topic) => topic.startsWith("pipeline:")))
  const page = await openStudio(t, url, "story", { prepare })
  await tell(page)
  await completed(page, stages(page).nth(0))
  const caption = await stages(page).nth(0).locator(".answer").textContent()
  await page.reload()
  await completed(page, stages(page).nth(0))
  assert.equal(await stages(page).nth(0).locator(".answer").textContent(), caption)
  await state(stages(page).nth(2), "queued").waitFor()
  assertGapless(sockets[1])
  const [{ id }] = await page.evaluate(() => JSON.parse(sessionStorage.getItem("koma.shown")))
  await page.close()
  const pipeline = () => ask(url, `/v1/pipelines/${id}`)
  const { stages: [, , { job }] } = await pipeline()
  await jobState(url, job, "cancelled")
  assert.equal((await pipeline()).state, "cancelled")
})

test("without a video the story says what is missing", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "story")
  await current(page).getByRole("button", { name: "Tell the story" }).click()
  await current(page).getByText("Choose a video first.").waitFor()
  assert.equal(await page.evaluate(() => document.activeElement.type), "file")
})

test("a story that is cancelled stops at the stage that runs", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "story")
  await tell(page)
  await completed(page, stages(page).nth(0))
  await current(page).getByRole("button", { name: "Cancel" }).click()
  await current(page).getByRole("button", { name: "Dismiss" }).waitFor()
  await state(stages(page).nth(2), "completed").waitFor({ state: "detached" })
})
