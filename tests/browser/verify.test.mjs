// The view "Verify": a marked, a stripped, a re-encoded, a changed and an unmarked file get their true answers.
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { ask, CLIP, current, openStudio } from "./harness/studio.mjs"
import { fullServer } from "./harness/suite.mjs"

test("Verify: five files get five true answers, each layer apart, and nothing is kept", async (t) => {
  const { url } = await fullServer()
  const params = { prompt: "a kettle to verify", seed: 31, steps: 2, width: 128, height: 128 }
  const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ task: "image.generate", params }) }
  const { outputs } = await ask(url, "/v1/jobs?wait=true", request)
  const marked = Buffer.from(await (await fetch(url + outputs[0].url)).arrayBuffer())
  const page = await openStudio(t, url, "verify", { viewport: { width: 1280, height: 900 } })
  const drawn = (type) => page.evaluate(drawAgain, [outputs[0].url, type])
  const changed = Buffer.from(marked)
  changed[changed.length - 30] ^= 1

  const expected = [
    ["marked.png", "image/png", marked, "Made here", /trusted, signed by Koma server/],
    ["stripped.png", "image/png", Buffer.from(await drawn("image/png"), "base64"), "Made here", /found, id [0-9a-f]{10}/],
    ["encoded.jpg", "image/jpeg", Buffer.from(await drawn("image/jpeg"), "base64"), "Made here", /found, id [0-9a-f]{10}/],
    ["changed.png", "image/png", changed, "Changed after it was signed", /the file was changed after it was signed/],
    ["clip.mp4", "video/mp4", readFileSync(CLIP), "Unknown", /not found/],
  ]
  for (const [name, mimeType, buffer, verdict, layer] of expected) {
    await current(page).locator("input[type=file]").setInputFiles({ name, mimeType, buffer })
    const answer = current(page).getByRole("article", { name })
    await answer.getByText(verdict, { exact: true }).waitFor({ timeout: 60_000 })
    await answer.getByText(layer).waitFor()
  }
  assert.match(await current(page).innerText(), /does not mean that no model made it/)
  await assertAccessible(page)
  await screenshot(page, "verify")
})

// Runs in the page: the picture as a browser saves it again, which drops its statement.
async function drawAgain([source, type]) {
  const picture = await createImageBitmap(await (await fetch(source)).blob(), { colorSpaceConversion: "none" })
  const canvas = new OffscreenCanvas(picture.width, picture.height)
  canvas.getContext("2d").drawImage(picture, 0, 0)
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type, quality: 0.8 })).arrayBuffer())
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))
}
