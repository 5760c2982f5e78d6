// The form of a tool says what the schema of its family says: for every parameter of every family.
import assert from "node:assert/strict"
import { test } from "node:test"
import { around, ask, current, openStudio } from "./harness/studio.mjs"
import { fullServer, toyServer } from "./harness/suite.mjs"

const SLUGS = { "video.understand": "understand", "image.generate": "image", "video.generate": "video" }

const described = (field) =>
  field.evaluate((control) => control.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(""))

// Bounds of a number, wherever the schema has them.
const bounds = (declared) => {
  const { type, minimum, maximum, exclusiveMinimum, exclusiveMaximum } = { ...declared, ...declared.anyOf?.find((one) => one.type !== "null") }
  return { number: ["integer", "number"].includes(type), low: minimum ?? exclusiveMinimum, high: maximum ?? exclusiveMaximum }
}

async function checkField(view, name, declared, required) {
  const field = view.locator(`[name="${name}"]`)
  assert.equal(await field.count(), 1, `${name} is there`)
  assert.equal(await field.evaluate(({ labels }) => labels.length), 1, `${name} has a label`)
  assert.equal(await described(field), declared.description ?? "", `${name} has its help`)
  assert.equal(await field.evaluate((control) => control.closest("details") !== null), declared["x-advanced"] === true && !required, name)
  const { number, low, high } = bounds(declared)
  const slider = around(field).locator("input[type=range]")
  if (!number || low === undefined || high === undefined || high - low > 10_000) return assert.equal(await slider.count(), 0, name)
  await checkSlider(slider, field, low, high)
}

async function checkSlider(slider, field, low, high) {
  const range = await slider.evaluate(({ min, max, step }) => [min, max, step].map(Number))
  assert.ok(range[0] >= low && range[1] <= high && range[2] > 0, `${range} within ${low} to ${high}`)
  const start = await field.inputValue()
  await slider.evaluate((element) => {
    element.value = element.max
    element.dispatchEvent(new Event("input"))
  })
  assert.equal(Number(await field.inputValue()), range[1])
  await field.fill(String(range[0]))
  assert.equal(Number(await slider.inputValue()), range[0])
  await field.fill(start)
}

for (const [name, which] of [["the three families", fullServer], ["a family that the page does not know", toyServer]]) {
  test(`${name}: every parameter has its label, help, slider within its bounds, and place`, async (t) => {
    const { url } = await which()
    for (const { tasks } of (await ask(url, "/v1/models")).data) {
      for (const [task, spec] of Object.entries(tasks)) {
        const page = await openStudio(t, url, SLUGS[task] ?? task)
        const view = current(page)
        const advanced = view.locator("details.advanced")
        assert.equal(await advanced.evaluate(({ open }) => open), false, "folded to begin with")
        await advanced.locator("summary").click()
        for (const [name, declared] of Object.entries(spec.params.properties)) {
          await checkField(view, name, declared, (spec.params.required ?? []).includes(name))
        }
        assert.equal(await view.locator("form [name]:not([type=range])").count(), Object.keys(spec.params.properties).length)
      }
    }
  })
}
