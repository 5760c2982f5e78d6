// The Studio as its tests use it.
import assert from "node:assert/strict"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { openPage } from "./browser.mjs"
import { ROOT } from "./server.mjs"

export const CLIP = join(ROOT, "priv/demo/input.mp4")

// Opens the view `slug` (understand, image, video, story, gallery, toy.run); the page counts what its pictures and texts went through.
export async function openStudio(t, url, slug, options = {}) {
  const page = await openPage(t, `${url}/#${slug}`, { init: record, ...options })
  await current(page).waitFor()
  return page
}

// The view that is shown.
export const current = (page) => page.locator("section.view:not([hidden])")

// A control with its label, help and error.
export const around = (control) => control.locator("xpath=ancestor::div[contains(concat(' ', @class, ' '), ' field ')]")

// The newest job of the view, or the only one.
export const newest = (page) => current(page).locator("article.job").first()

export const state = (job, name) => job.and(job.page().locator(`[data-state="${name}"]`))

export async function completed(page, job = newest(page)) {
  await state(job, "completed").waitFor()
  return job
}

// Runs in the page: every source that a preview had, every length that a growing text had.
function record() {
  window.recorded = { previews: new Set(), lengths: new Set() }
  new MutationObserver((records) => {
    for (const { target, addedNodes } of records) {
      for (const node of [target, ...addedNodes]) {
        const element = node instanceof Element ? node : node.parentElement
        const preview = element?.matches("img.preview") ? element : element?.querySelector?.("img.preview")
        if (preview?.src) window.recorded.previews.add(preview.src)
        const text = element?.closest(".growing")?.textContent
        if (text) window.recorded.lengths.add(text.length)
      }
    }
  }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["src"] })
}

export async function recorded(page) {
  return page.evaluate(() => ({ previews: window.recorded.previews.size, lengths: [...window.recorded.lengths] }))
}

// The numbers of the events of the topics that fit, in the order of their coming: one list for each socket that the page opens.
export function listen(page, topic) {
  const sockets = []
  page.on("websocket", (socket) => {
    const numbers = []
    sockets.push(numbers)
    socket.on("framereceived", ({ payload }) => {
      if (typeof payload !== "string") return
      const [, , about, , body] = JSON.parse(payload)
      if (body?.seq && topic(about)) numbers.push(body.seq)
    })
  })
  return sockets
}

export function assertGapless(numbers) {
  assert.deepEqual(numbers, numbers.map((_, index) => index + 1))
  assert.ok(numbers.length > 0)
}

export async function ask(url, path, options) {
  const response = await fetch(url + path, options)
  return response.status === 204 ? null : response.json()
}

// The jobs of the server, newest first.
export const jobs = (url) => ask(url, "/v1/jobs")

// Waits for a state that no event tells, because to follow a job keeps it wanted.
export async function jobState(url, id, wanted, ms = 60_000) {
  for (const end = Date.now() + ms; ; await pause(100)) {
    const { state } = await ask(url, `/v1/jobs/${id}`)
    if (state === wanted) return
    assert.ok(Date.now() < end, `${id} is ${state}, not ${wanted}`)
  }
}
