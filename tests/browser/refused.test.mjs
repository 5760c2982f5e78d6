// Files that cannot be taken, chosen as people choose them: each is refused at the place where it went in, in a sentence that says what to do.
import assert from "node:assert/strict"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { CLIP, completed, current, newest, openStudio } from "./harness/studio.mjs"
import { fullServer } from "./harness/suite.mjs"

const PDF = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"

// What the files are called and what is in them; `clip` is a whole MP4 with its index at the end or at the beginning.
const FILES = {
  "report.pdf": () => PDF,
  "notes.txt": () => "Only words.\n",
  "empty.mp4": () => "",
  "renamed.mp4": () => PDF,
  "cut.mp4": (clip) => clip.subarray(0, 200),
  "zeros.mp4": () => Buffer.alloc(4096),
}

const CODES = /inputs\.|invalid_media|unsupported_media|model_failed|internal|undefined|\bnull\b|Traceback|Errno|%\{/i

// The browser reads a file when it is sent, so it stays until the test ends.
async function choose(t, page, name, content) {
  const folder = mkdtempSync(join(tmpdir(), "koma-refused-"))
  t.after(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, name), content)
  await current(page).locator("input[type=file]").setInputFiles(join(folder, name))
}

// The sentence below the place of the file, once there is one; asks for it where the upload went well.
async function refusal(page) {
  const view = current(page)
  const error = view.locator(".field:has(.drop) > .error:not([hidden])")
  if (!(await view.locator(".chosen").isHidden())) await view.getByRole("button", { name: "Ask" }).click()
  await error.waitFor()
  return error.textContent()
}

test("each file that is refused is answered beside its place with a sentence, and the next one is taken", async (t) => {
  const { url } = await fullServer()
  const clip = readFileSync(CLIP)
  const page = await openStudio(t, url, "understand")
  await current(page).getByLabel("Prompt", { exact: true }).fill("What is it?")
  for (const [name, content] of Object.entries(FILES)) {
    await choose(t, page, name, content(clip))
    const told = await refusal(page)
    assert.ok(told.split(" ").length >= 4, `${name}: ${told}`)
    assert.ok(told.startsWith(`“${name}”`), `${name}: ${told}`)
    assert.doesNotMatch(told, CODES, `${name}: ${told}`)
    assert.equal(await current(page).locator("article.job").count(), 0, `${name}: no job is left that says it once more`)
    const label = await current(page).locator("input[type=file]").evaluate((picker) => ({
      invalid: picker.ariaInvalid,
      described: picker.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id).textContent).join(" "),
    })) // prettier-ignore
    assert.equal(label.invalid, "true")
    assert.ok(label.described.includes(told), "it is said aloud with the field")
    await assertAccessible(page)
    await screenshot(page, `studio-refused-${name.replace(".", "-")}`)
    t.diagnostic(`${name}: ${told}`)
  }
  await current(page).locator("input[type=file]").setInputFiles(CLIP)
  await current(page).getByRole("button", { name: "Ask" }).click()
  await completed(page)
  assert.equal(await current(page).locator(".field:has(.drop) > .error:not([hidden])").count(), 0)
})

test("what the server says against an upload is shown with the name of the file", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "understand", { expected: [/status of 507/] })
  const message = "The disk is full; nothing more can be stored for now."
  await page.route("**/v1/artifacts", (route) => route.fulfill({ status: 507, json: { error: { code: "storage_full", message } } }))
  await current(page).locator("input[type=file]").setInputFiles(CLIP)
  await current(page).getByText(`“input.mp4”: ${message}`).waitFor()
})

test("a picture that is called a video goes in as the picture that it is", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "understand")
  const picture = await page.evaluate(async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 })
    canvas.getContext("2d").fillRect(8, 8, 32, 32)
    return canvas.toDataURL("image/png").split(",")[1]
  })
  await choose(t, page, "picture.mp4", Buffer.from(picture, "base64"))
  await current(page).getByLabel("Prompt", { exact: true }).fill("What is it?")
  await current(page).getByRole("button", { name: "Ask" }).click()
  await completed(page, newest(page))
})
