// Finished work: looked at, made again, used, downloaded, linked, deleted.
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"
import { assertAccessible, openTab, screenshot } from "./harness/browser.mjs"
import { ask, CLIP, completed, current, newest, openStudio } from "./harness/studio.mjs"
import { fullServer } from "./harness/suite.mjs"

// An image of its own for each test, by the same route as any client.
async function made(url, prompt, seed, { task = "image.generate", ...more } = {}) {
  const params = { prompt, seed, steps: 4, ...more }
  return ask(url, "/v1/jobs?wait=true", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ task, params, cache: false }),
  })
}

const tile = (page, prompt) => page.locator(".tile", { has: page.getByRole("heading", { name: prompt }) }).first()

test("a result is shown with its parameters, seed, time and model, and labelled", async (t) => {
  const { url } = await fullServer()
  await made(url, "a lamp to look at", 4711)
  const page = await openStudio(t, url, "gallery", { viewport: { width: 1920, height: 1080 } })
  const one = tile(page, "a lamp to look at")
  for (const text of ["AI-generated", "amused", "seed 4711", /^\d+(\.\d)? (ms|s)$/]) await one.getByText(text).waitFor()
  await one.getByText("Parameters").click()
  assert.match(await one.locator("dl").innerText(), /Steps\s+4/)
  await assertAccessible(page)
  await screenshot(page, "gallery")
})

test("again makes the same picture, a new seed another job; both run in the tool with its form filled", async (t) => {
  const { url } = await fullServer()
  const first = await made(url, "a lamp again", 5)
  const page = await openStudio(t, url, "gallery")
  await tile(page, "a lamp again").getByRole("button", { name: "Again" }).click()
  await (await completed(page)).getByRole("img", { name: "a lamp again" }).waitFor()
  const [second] = await ask(url, "/v1/jobs?limit=1")
  // The id of the mark is that of the pixels; the files differ, as each was signed at its own time.
  assert.equal(second.outputs[0].meta.marks.id, first.outputs[0].meta.marks.id)
  assert.equal(await current(page).getByLabel("Steps").inputValue(), "4")

  await newest(page).getByRole("button", { name: "New seed" }).click()
  await current(page).locator("article.job").nth(1).waitFor()
  const other = await completed(page)
  assert.equal(await other.getByText("seed 5", { exact: true }).count(), 0)
})

test("a picture is used as the first image of a video", async (t) => {
  const { url } = await fullServer()
  const { outputs } = await made(url, "a lamp to film", 6)
  const page = await openStudio(t, url, "gallery")
  await tile(page, "a lamp to film").getByText("Use in").click()
  await tile(page, "a lamp to film").getByRole("button", { name: "Video" }).click()
  await current(page).getByText("From earlier work").waitFor()
  await current(page).getByLabel("Prompt", { exact: true }).fill("the lamp swings")
  await current(page).getByLabel("Steps").fill("2")
  await current(page).getByRole("button", { name: "Make the video" }).click()
  await completed(page)
  const inputs = async () => (await ask(url, "/v1/jobs?limit=1"))[0].inputs
  assert.deepEqual(await inputs(), { image: outputs[0].artifact })

  await current(page).getByRole("button", { name: "Remove" }).click()
  await newest(page).getByRole("button", { name: "New seed" }).click()
  await current(page).locator("article.job").nth(1).waitFor()
  await completed(page)
  assert.deepEqual(await inputs(), { image: outputs[0].artifact }, "again with its input")
})

test("a download has the bytes of the result", async (t) => {
  const { url } = await fullServer()
  const { outputs } = await made(url, "a lamp to keep", 7)
  const page = await openStudio(t, url, "gallery")
  const [download] = await Promise.all([page.waitForEvent("download"), tile(page, "a lamp to keep").getByText("Download").click()])
  assert.match(download.suggestedFilename(), /^koma-[0-9a-f]{12}\.png$/)
  const stored = Buffer.from(await (await fetch(url + outputs[0].url)).arrayBuffer())
  assert.deepEqual(readFileSync(await download.path()), stored)
})

test("every result has its label; a video and an answer are used as input, too", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "understand")
  await current(page).locator("input[type=file]").setInputFiles(CLIP)
  await current(page).getByLabel("Prompt", { exact: true }).fill("What is this?")
  await current(page).getByRole("button", { name: "Ask" }).click()
  const answer = await (await completed(page)).locator(".answer").textContent()
  const [download] = await Promise.all([page.waitForEvent("download"), newest(page).getByText("Download").click()])
  assert.equal(readFileSync(await download.path(), "utf8"), answer)
  await made(url, "a lamp that moves", 10, { task: "video.generate", frames: 9 })

  await page.getByRole("link", { name: "Gallery" }).click()
  await tile(page, "a lamp that moves").getByText("Use in").click()
  await tile(page, "a lamp that moves").getByRole("button", { name: "Understand" }).click()
  await current(page).getByText("From earlier work").waitFor()
  await page.getByRole("link", { name: "Gallery" }).click()
  const figures = page.locator(".tile figure")
  assert.ok((await figures.count()) >= 2)
  assert.equal(await figures.count(), await figures.getByText("AI-generated", { exact: true }).count())
  await tile(page, "What is this?").getByText("Use in").click()
  await tile(page, "What is this?").getByRole("button", { name: "Image" }).click()
  assert.equal(await current(page).getByLabel("Prompt", { exact: true }).inputValue(), answer)
})

test("the link of a result opens it in another tab", async (t) => {
  const { url } = await fullServer()
  const { id } = await made(url, "a lamp to share", 8)
  const page = await openStudio(t, url, "gallery", { permissions: ["clipboard-read", "clipboard-write"] })
  await tile(page, "a lamp to share").getByRole("button", { name: "Copy link" }).click()
  await page.getByText("Link copied").waitFor()
  const link = await page.evaluate(() => navigator.clipboard.readText())
  assert.equal(link, `${url}/#job/${id}`)
  const tab = await openTab(t, page.context(), link)
  await (await completed(tab)).getByRole("img", { name: "a lamp to share" }).waitFor()
  await assertAccessible(tab)
})

test("a result that is deleted is gone, here and on the server, and its link says so", async (t) => {
  const { url } = await fullServer()
  const { id } = await made(url, "a lamp to delete", 9)
  const page = await openStudio(t, url, "gallery")
  const remove = () => tile(page, "a lamp to delete").getByRole("button", { name: "Delete" }).click()
  await remove()
  await page.getByRole("dialog").getByRole("button", { name: "Keep it" }).click()
  await remove()
  await assertAccessible(page)
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click()
  await page.getByRole("heading", { name: "a lamp to delete" }).waitFor({ state: "detached" })
  assert.equal((await fetch(`${url}/v1/jobs/${id}`)).status, 404)
  const tab = await openTab(t, page.context(), `${url}/#job/${id}`)
  await newest(tab).getByText("This result is not on the server any more.").waitFor()
})
