// @ts-check
// The Studio: asks which tasks there are, makes a view of each, and connects the parts.
import * as api from "./api.js"
import { Connection } from "./connection.js"
import { el, setText } from "./dom.js"
import { Gallery } from "./gallery.js"
import { forgetKey, haveKey, key } from "./key.js"
import * as session from "./session.js"
import { Shared } from "./shared.js"
import { Story, STORY_TASKS } from "./story.js"
import { Tool } from "./tool.js"
import { Verify } from "./verify.js"
import { compareTasks } from "./words.js"

const MODELS_AGAIN_MS = 3_000

const get = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id))
const main = get("main")
await haveKey()
const connection = new Connection()

/** @type {import("./actions.js").Studio} */
const studio = { connection, again, targets, forget: api.forget, finished: () => gallery.element.hidden || gallery.load() }

/** @type {Map<string, Tool>} */
const tools = new Map()
const gallery = new Gallery(studio)
const verify = new Verify()
const shared = new Shared(studio)
/** @type {Story | null} */
let story = null

/** @returns {(Tool | Story | Gallery | Verify)[]} in the order of the navigation */
function views() {
  const list = [...tools.values()].sort((a, b) => compareTasks(a.task, b.task))
  return [...list, ...(story ? [story] : []), gallery, verify]
}

// Model nodes come up one after the other: what is not there yet is asked for again.
async function loadModels() {
  const models = await api.models().catch(() => [])
  const before = tools.size
  for (const [task, families] of byTask(models)) if (!tools.has(task)) add(task, families)
  if (tools.size > before || before === 0) arrange()
  if (models.length === 0 || models.some(({ tasks }) => Object.keys(tasks).length === 0)) setTimeout(loadModels, MODELS_AGAIN_MS)
}

/** @param {any[]} models @returns {Map<string, {family: string, spec: any, notice?: string}[]>} */
function byTask(models) {
  const found = new Map()
  for (const { family, notice, tasks } of models)
    for (const [task, spec] of Object.entries(tasks)) found.set(task, [...(found.get(task) ?? []), { family, notice, spec }])
  return found
}

/** @param {string} task @param {any[]} families */
function add(task, families) {
  const tool = new Tool(task, families, studio)
  tools.set(task, tool)
  main.append(tool.element)
  for (const entry of session.entries()) if (entry.kind === "job" && entry.task === task) tool.show({ id: entry.id, task: "" })
}

function arrange() {
  const understand = tools.get(STORY_TASKS[0])
  if (!story && understand && STORY_TASKS.every((task) => tools.has(task))) {
    story = new Story(understand.families[0].spec.inputs, studio)
    main.append(story.element)
    for (const { kind, id } of session.entries()) if (kind === "pipeline") story.show(id)
  }
  gallery.offer([...tools.keys()].sort(compareTasks))
  get("nav").replaceChildren(...views().map(({ slug, title }) => el("a", { href: `#${slug}` }, title)))
  get("loading").hidden = tools.size > 0
  route()
}

// The view that the address names: #image, #gallery, #job/<id>; the first one without.
function route() {
  const [name, id] = decodeURIComponent(location.hash.slice(1)).split("/")
  // A job that this tab follows already is shown where it is followed.
  const follows = [...tools.values()].find((tool) => tool.views.has(id))
  const wanted = name === "job" && id ? (follows ?? shared) : (views().find(({ slug }) => slug === name) ?? views()[0])
  if (tools.size === 0 && wanted === views()[0] && name !== wanted.slug) return
  for (const view of [...views(), shared]) view.element.hidden = view !== wanted
  for (const link of get("nav").querySelectorAll("a")) {
    if (link.hash === `#${wanted.slug}`) link.setAttribute("aria-current", "page")
    else link.removeAttribute("aria-current")
  }
  document.title = `${wanted.title} · Koma Studio`
  if (wanted === gallery) gallery.load()
  if (wanted === shared) shared.show(id)
  return wanted
}

function go(/** @type {string} */ slug) {
  if (location.hash === `#${slug}`) route()
  else location.hash = slug
}

/** @param {any} job @param {{newSeed: boolean}} options */
function again(job, options) {
  const tool = tools.get(job.task)
  if (!tool) return
  go(tool.slug)
  tool.again(job, options)
}

// Where an output fits: a file into a drop zone, a text into a prompt.
/** @param {any} output */
function targets(output) {
  return views().flatMap((view) => {
    const use = useIn(view, output)
    return use ? [{ label: view.title, use: () => (use(), go(view.slug)) }] : []
  })
}

/** @param {Tool | Story | Gallery | Verify} view @param {any} output @returns {(() => void) | null} */
function useIn(view, output) {
  if (output.text !== undefined) return view instanceof Tool && view.takesText() ? () => view.useText(output.text) : null
  const zone = zonesOf(view).find(({ types }) => output.artifact && types.includes(output.media_type))
  return zone ? () => zone.putArtifact(output.artifact, zone.inputFor(output.media_type)) : null
}

/** @param {Tool | Story | Gallery | Verify} view @returns {any[]} the places where files go in */
function zonesOf(view) {
  return view instanceof Tool ? view.form.zones : view.zones
}

// Files that were dropped or pasted anywhere in the view that is shown.
/** @param {DataTransfer | null} data */
function putFiles(data) {
  const view = views().find(({ element }) => !element.hidden)
  const zone = view && zonesOf(view)[0]
  if (zone) zone.putFrom(data)
  else if (view instanceof Tool) view.form.showError(new api.KomaError({ code: "unsupported_media", message: "No file goes in here." }))
}

function holdsFiles(/** @type {DataTransfer | null} */ data) {
  return data?.types.includes("Files") ?? false
}

function showConnection() {
  const { state } = connection
  // A key that was taken away looks like a lost connection; HTTP tells the difference.
  if (state === "lost" && key()) api.models().catch(() => {})
  const words = { connecting: "Connecting", connected: "Connected", lost: "Reconnecting" }[state] ?? state
  get("status").dataset.state = state
  setText(get("status"), words)
  get("banner").hidden = state !== "lost"
  setText(get("banner"), state === "lost" ? "The connection to the server is lost. It is being made again; no job that was accepted is lost." : "")
}

// A file that misses its zone goes in there all the same; a link must not replace the page; a text may be dropped on a field.
for (const name of ["dragover", "drop"])
  document.addEventListener(name, (event) => {
    const files = holdsFiles(/** @type {DragEvent} */ (event).dataTransfer)
    if (files || !(/** @type {Element} */ (event.target).matches("input, textarea"))) event.preventDefault()
    if (files && name === "drop") putFiles(/** @type {DragEvent} */ (event).dataTransfer)
  })
document.addEventListener("paste", (event) => {
  if (!holdsFiles(event.clipboardData)) return
  event.preventDefault()
  putFiles(event.clipboardData)
})
// Not by its address, which names a view.
get("skip").addEventListener("click", (event) => (event.preventDefault(), main.focus()))
addEventListener("hashchange", () => route()?.heading.focus())
connection.addEventListener("change", showConnection)

get("forget").hidden = key() === null
get("forget").addEventListener("click", forgetKey)
main.append(gallery.element, verify.element, shared.element)
connection.connect()
loadModels()
