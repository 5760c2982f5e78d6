// What people type, paste and drop: wrong, huge, hostile.
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { around, CLIP, completed, current, jobs, newest, openStudio, state } from "./harness/studio.mjs"
import { fullServer, toyServer } from "./harness/suite.mjs"

const HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2<\/script>'

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), "koma-input-"))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

const focused = (page) => page.evaluate(() => ({ name: document.activeElement.name, invalid: document.activeElement.ariaInvalid }))

// Drops or pastes files with these names and contents, as the browser hands them to the page.
async function hand(locator, event, files) {
  await locator.evaluate(
    (element, [event, files]) => {
      const data = new DataTransfer()
      for (const { name, type, content } of files) data.items.add(new File([content], name, { type }))
      const bubbles = { bubbles: true, cancelable: true }
      element.dispatchEvent(event === "drop" ? new DragEvent("drop", { ...bubbles, dataTransfer: data }) : new ClipboardEvent("paste", { ...bubbles, clipboardData: data }))
    },
    [event, files],
  )
}

const CLIPBOARD = { permissions: ["clipboard-read", "clipboard-write"] }

// The three ways in which a text gets into a field, as the browser does them: keys, the clipboard, a drag from elsewhere.
const ways = {
  typed: async (page, field, text) => {
    await field.focus()
    if (text.length < 200) await page.keyboard.type(text)
    else await page.keyboard.insertText(text)
  },
  pasted: async (page, field, text) => {
    await page.evaluate((text) => navigator.clipboard.writeText(text), text)
    await field.focus()
    await page.keyboard.press("ControlOrMeta+V")
  },
  dropped: (page, field, text) => drag(page, field, { items: [{ mimeType: "text/plain", data: text }] }),
}

// Drags data, or files of this machine, from outside of the browser onto an element.
async function drag(page, element, { items = [], files = [] }) {
  await element.scrollIntoViewIfNeeded()
  const { x, y, width, height } = await element.boundingBox()
  const devtools = await page.context().newCDPSession(page)
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await devtools.send("Input.dispatchDragEvent", { type, x: x + width / 2, y: y + height / 2, data: { items, files, dragOperationsMask: 1 } })
  }
  await devtools.detach()
}

// What is wrong for a field, whatever its bounds; nothing that can be entered is wrong for a choice or a check box.
const wrongFor = (field) =>
  field.evaluate((control) => {
    if (control.inputMode) return ["ten", "1e999", "-5", "99999999999999999999", "<img src=x onerror=alert(1)>"]
    return control.tagName === "TEXTAREA" ? ["x".repeat(4001)] : []
  })

const form = { understand: fullServer, image: fullServer, video: fullServer, "toy.run": toyServer }
for (const [slug, which] of Object.entries(form)) {
  test(`${slug}: whatever is typed, pasted or dropped into any field, what is wrong with it is said there in words`, async (t) => {
    const { url } = await which()
    const page = await openStudio(t, url, slug, CLIPBOARD)
    const view = current(page)
    await view.getByText("Advanced").click()
    const prompt = view.getByLabel("Prompt", { exact: true })
    if (await prompt.count()) await prompt.fill("a lamp")
    const fields = view.locator("form [name]:not([type=range])")
    assert.ok((await fields.count()) >= 5)
    let entered = 0
    for (const field of await fields.all()) {
      const name = await field.getAttribute("name")
      const before = await field.inputValue()
      for (const wrong of await wrongFor(field)) {
        for (const [way, enter] of Object.entries(ways)) {
          await field.fill("")
          await enter(page, field, wrong)
          assert.equal(await field.inputValue(), wrong, `${name}: ${way}`)
          await view.locator("button.primary").click()
          assert.deepEqual(await focused(page), { name, invalid: "true" }, `${name}: ${wrong.slice(0, 30)} ${way}`)
          const error = around(field).locator(".error:not([hidden])")
          assert.match(await error.textContent(), /^Must (be|have) /)
          entered += 1
        }
      }
      if (await field.isEditable()) await field.evaluate((control, value) => control.type === "checkbox" || (control.value = value), before)
    }
    assert.ok(entered > 20, `${entered} wrong entries`)
    assert.equal(await view.locator("article.job").count(), 0, "nothing was submitted")
  })
}

test("choices and check boxes keep one of their values, whatever is typed, pasted or dropped on them", async (t) => {
  const { url } = await toyServer()
  const page = await openStudio(t, url, "toy.run", CLIPBOARD)
  await current(page).getByText("Advanced").click()
  for (const field of await current(page).locator("form select, form [type=checkbox]").all()) {
    const before = await field.inputValue()
    for (const enter of Object.values(ways)) await enter(page, field, "no such thing")
    const [value, choices] = await field.evaluate(({ value, options }) => [value, [...(options ?? [])].map((option) => option.value)])
    assert.ok(choices.length ? choices.includes(value) : value === before)
  }
})

test("characters that no text may have are no trouble", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "image", CLIPBOARD)
  for (const [text, shown] of [["half a pair: \ud83d.", "half a pair: \ufffd."], ["\u0000\u202e\u200f zero, bidi", null], ["🎈".repeat(2000), null]]) {
    await current(page).getByLabel("Prompt", { exact: true }).evaluate((field, text) => (field.value = text), text)
    await current(page).getByLabel("Steps").fill("1")
    await current(page).getByRole("button", { name: "Make the image" }).click()
    const job = await completed(page)
    if (shown) assert.equal(await job.getByRole("heading").textContent(), shown)
  }
})

test("a text that is missing or too long is said at its field, and keys are enough to mend it", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "image")
  const view = current(page)
  await view.getByRole("button", { name: "Make the image" }).click()
  await view.getByText("Please fill this in.").waitFor()
  assert.deepEqual(await focused(page), { name: "prompt", invalid: "true" })
  await view.getByLabel("Prompt", { exact: true }).fill("x".repeat(4001))
  await view.getByRole("button", { name: "Make the image" }).click()
  await view.getByText("Must have at most 4000 characters; these are 4001.").waitFor()
  await assertAccessible(page)
  await screenshot(page, "error-at-field")

  await view.getByLabel("Prompt", { exact: true }).fill("a lamp")
  await page.keyboard.press("Tab")
  await page.keyboard.press("ArrowUp") // the field of the steps: 13
  await page.keyboard.press("Enter")
  const job = await completed(page)
  await job.getByText("Parameters").focus()
  await page.keyboard.press("Enter")
  assert.match(await job.locator("dl").innerText(), /Steps\s+13/)
})

test("what only the model can find wrong is said at the field as well", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "understand")
  await current(page).getByRole("button", { name: "Ask" }).click()
  await current(page).locator(".error:not([hidden])").getByText("A video or an image is required").waitFor()
  assert.equal(await page.evaluate(() => document.activeElement.type), "file")
  await hand(current(page).locator(".drop"), "drop", [{ name: "broken.png", type: "image/png", content: "no picture" }])
  await current(page).getByText("broken.png").waitFor()
  await current(page).getByRole("button", { name: "Ask" }).click()
  await current(page).locator(".error:not([hidden])").first().waitFor()
})

test("files that do not fit are refused with a reason before they are uploaded", async (t) => {
  const { url } = await fullServer()
  const uploads = []
  const prepare = (page) => page.on("request", (request) => request.method() === "POST" && uploads.push(request.url()))
  const page = await openStudio(t, url, "understand", { prepare })
  const zone = current(page).locator(".drop")
  const refused = async (event, files, reason) => {
    await hand(zone, event, files)
    await current(page).locator(".error:not([hidden])").getByText(reason).waitFor()
  }
  await refused("drop", [{ name: "notes.txt", type: "text/plain", content: "x" }], /“notes\.txt” is of the type text\/plain, which does not go in here; choose .*MP4/)
  await refused("drop", [{ name: "what", type: "", content: "x" }], /“what” is of an unknown type, which does not go in here; choose/)
  await refused("paste", [{ name: "empty.png", type: "image/png", content: "" }], "“empty.png” is empty; choose another file.")
  await refused("drop", [], "Only files can be dropped here.")
  const two = [1, 2].map((n) => ({ name: `${n}.png`, type: "image/png", content: "x" }))
  await refused("drop", two, "One file at a time; these are 2.")

  const large = join(folder(t), "large.mp4")
  writeFileSync(large, "")
  truncateSync(large, 2 * 1024 ** 3) // sparse
  const tooLarge = current(page).getByText(/“large\.mp4” has 2\.1 GB; at most 537 MB are taken\./)
  await current(page).locator("input[type=file]").setInputFiles(large)
  await tooLarge.waitFor()
  await current(page).locator("input[type=file]").setInputFiles(CLIP)
  await tooLarge.waitFor({ state: "hidden" })
  uploads.length = 0
  await drag(page, zone, { files: [large] })
  await tooLarge.waitFor()
  await drag(page, zone, { items: [{ mimeType: "text/plain", data: HOSTILE }] })
  await current(page).getByText("Only files can be dropped here.").waitFor()
  assert.deepEqual(uploads, [])
})

test("a file that is dropped or pasted on any field goes where files go in", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "video")
  await current(page).getByText("Advanced").click()
  const fields = current(page).locator("textarea, input[type=text], select")
  for (const [index, field] of (await fields.all()).entries()) {
    const name = `${index}.png`
    await hand(field, index % 2 ? "drop" : "paste", [{ name, type: "image/png", content: `picture ${index}` }])
    await current(page).locator(".name").getByText(name).waitFor()
  }
  assert.equal(new URL(page.url()).hash, "#video")

  // A tool without a place for files says so.
  await page.getByRole("link", { name: "Image" }).click()
  const prompt = current(page).getByLabel("Prompt", { exact: true })
  for (const way of ["drop", "paste"]) {
    await hand(prompt, way, [{ name: "one.png", type: "image/png", content: "picture" }])
    await current(page).getByText("No file goes in here.").waitFor()
    await page.getByRole("link", { name: "Gallery" }).click()
    await page.getByRole("link", { name: "Image" }).click()
  }
})

test("hostile prompts, file names and errors are shown as text", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "image")
  page.on("dialog", () => assert.fail("a dialog"))
  await current(page).getByLabel("Prompt", { exact: true }).fill(HOSTILE)
  await current(page).getByLabel("Steps").fill("2")
  await current(page).getByRole("button", { name: "Make the image" }).click()
  const job = await completed(page)
  assert.equal(await job.getByRole("heading").textContent(), HOSTILE)

  await current(page).getByLabel("Steps").fill(HOSTILE)
  await current(page).getByRole("button", { name: "Make the image" }).click()
  await current(page).getByText(/Must be a whole number, not “<img src=x onerror=/).waitFor()

  await page.getByRole("link", { name: "Gallery" }).click()
  await page.getByRole("heading", { name: HOSTILE }).first().waitFor()
  await page.getByRole("link", { name: "Understand" }).click()
  const name = `${HOSTILE}.png`
  await hand(current(page).locator(".drop"), "drop", [{ name, type: "image/png", content: "x" }])
  assert.equal(await current(page).locator(".name").textContent(), name)

  await page.goto(`${url}/#job/${encodeURIComponent(HOSTILE)}`)
  await state(newest(page), "failed").waitFor()
  assert.equal(await page.locator("[onerror], main script").count(), 0)
  assert.match(await page.title(), /Koma Studio/)
  assert.ok((await jobs(url)).some(({ params }) => params.prompt === HOSTILE))
})
