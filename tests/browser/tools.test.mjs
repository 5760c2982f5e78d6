// Understand, Image and Video against the real families. What the pictures show does not matter: the checkpoints may be untrained.
import assert from "node:assert/strict"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { CLIP, completed, current, newest, openStudio, recorded } from "./harness/studio.mjs"
import { fullServer } from "./harness/suite.mjs"

const WIDE = { viewport: { width: 1920, height: 1080 } }
const NARROW = { viewport: { width: 360, height: 800 }, colorScheme: "dark" }

test("Understand: a video is dropped, the answer grows while it is made, and is labelled", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "understand", WIDE)
  const view = current(page)
  await view.getByLabel("Prompt").fill("Describe this video.")
  await view.locator("input[type=file]").setInputFiles(CLIP)
  await view.getByRole("button", { name: "Ask" }).click()
  const job = await completed(page)
  const { lengths } = await recorded(page)
  assert.ok(lengths.length >= 3, `the text had the lengths ${lengths}`)
  assert.deepEqual(lengths, [...lengths].sort((a, b) => a - b))
  assert.equal((await job.locator(".answer").textContent()).length, lengths.at(-1))
  await job.getByText("AI-generated").waitFor()
  await assertAccessible(page)
  await screenshot(page, "understand")
})

test("Image: the picture changes at least four times while it forms, then the result has the size that was asked for", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "image", NARROW)
  const view = current(page)
  await view.getByLabel("Prompt", { exact: true }).fill("a sailboat on the sea")
  await view.getByLabel("Steps").fill("32")
  await view.getByLabel("Width").fill("96")
  await view.getByRole("button", { name: "Make the image" }).click()
  await newest(page).getByText(/^Step \d+ of 32/).waitFor()
  await screenshot(page, "image-forming")
  const job = await completed(page)
  assert.ok((await recorded(page)).previews >= 4)
  const picture = job.getByRole("img", { name: "a sailboat on the sea" })
  await picture.evaluate((image) => image.decode())
  assert.deepEqual(await picture.evaluate(({ naturalWidth, naturalHeight }) => [naturalWidth, naturalHeight]), [96, 64])
  await job.getByText("AI-generated").waitFor()
  await assertAccessible(page)
  await screenshot(page, "image", { fullPage: true })
})

test("Video: from a first image, previews, then a video that plays", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "video", { ...WIDE, colorScheme: "dark" })
  const view = current(page)
  await view.locator("input[type=file]").setInputFiles({ name: "first.png", mimeType: "image/png", buffer: PIXELS })
  await view.getByLabel("Prompt", { exact: true }).fill("a sailboat moving right")
  await view.getByLabel("Frames", { exact: true }).selectOption("9")
  await view.getByLabel("Steps").fill("72")
  await view.getByRole("button", { name: "Make the video" }).click()
  const job = await completed(page)
  assert.ok((await recorded(page)).previews >= 4)
  const player = job.getByLabel("a sailboat moving right")
  const played = await player.evaluate(async (video) => {
    await video.play()
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) await new Promise((ready) => (video.oncanplay = ready))
    return { readyState: video.readyState, videoWidth: video.videoWidth, videoHeight: video.videoHeight, duration: video.duration }
  })
  assert.ok(played.readyState >= 2, "HAVE_CURRENT_DATA")
  assert.deepEqual([played.videoWidth, played.videoHeight], [64, 64])
  assert.ok(Math.abs(played.duration - 9 / 8) < 0.2, `${played.duration} s`)
  await job.getByText("AI-generated").waitFor()
  await assertAccessible(page)
  await screenshot(page, "video")
})

// 2 x 2 pixels.
const PIXELS = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVQI12P8z8DAwMDAxMDAwMDAAAANHQEDasKb6QAAAABJRU5ErkJggg==", "base64")
