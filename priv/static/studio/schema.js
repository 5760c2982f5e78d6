// @ts-check
// Reads the JSON Schema that a family declares for a task: which fields, of which kind, within which bounds. No page.
import { humanize } from "./words.js"

/**
 * @typedef {object} Property one parameter, with `anyOf [T, null]` resolved
 * @property {string} name
 * @property {string} label
 * @property {"integer" | "number" | "string" | "boolean" | "json"} type
 * @property {boolean} required
 * @property {boolean} advanced
 * @property {string} help
 * @property {any} initial the default, null where there is none
 * @property {any[]} [choices]
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {number} [above] exclusive
 * @property {number} [below] exclusive
 * @property {{exclusiveMinimum: number, exclusiveMaximum: number}} [gap] numbers between these are not taken
 * @property {number} [multipleOf]
 * @property {number} [minLength]
 * @property {number} [maxLength]
 */

/** @param {any} schema of an object @returns {Property[]} in the order to show them */
export function properties(schema) {
  const order = schema["x-order"] ?? []
  const required = schema.required ?? []
  const place = (/** @type {string} */ name) => (order.includes(name) ? order.indexOf(name) : order.length)
  return Object.entries(schema.properties ?? {})
    .map(([name, declared]) => property(name, declared, required.includes(name)))
    .sort((a, b) => place(a.name) - place(b.name) || Number(b.required) - Number(a.required) || a.name.localeCompare(b.name))
}

/** @param {string} name @param {any} declared @param {boolean} required @returns {Property} */
function property(name, declared, required) {
  const some = { ...declared, ...declared.anyOf?.find((/** @type {any} */ one) => one.type !== "null") }
  const types = [some.type].flat().filter((type) => type !== "null")
  const known = types.length === 1 && ["integer", "number", "string", "boolean"].includes(types[0])
  return {
    name,
    label: declared["x-label"] ?? humanize(name),
    type: known ? types[0] : "json",
    required,
    advanced: declared["x-advanced"] === true,
    help: declared.description ?? "",
    initial: declared.default ?? null,
    choices: some.enum,
    minimum: some.minimum,
    maximum: some.maximum,
    above: some.exclusiveMinimum,
    below: some.exclusiveMaximum,
    gap: some.not,
    multipleOf: some.multipleOf,
    minLength: some.minLength,
    maxLength: some.maxLength,
  }
}

/**
 * The value that a person typed, or what is wrong with it. Nothing typed means the default.
 * @param {Property} property @param {string} typed
 * @returns {{value?: any, error?: string}}
 */
export function parse(property, typed) {
  if (typed.trim() === "") return property.required ? { error: "Please fill this in." } : {}
  if (property.type === "string") return checkLength(property, typed)
  if (property.type === "json") return parseJson(typed)
  return parseNumber(property, typed.trim())
}

// Half of a pair of surrogates is no character, and no JSON.
const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g

/** @param {Property} property @param {string} typed */
function checkLength({ minLength = 0, maxLength = Infinity }, typed) {
  const text = typed.replace(LONE, "\ufffd")
  const length = [...text].length
  if (length < minLength) return { error: `Must have at least ${minLength} characters; these are ${length}.` }
  if (length > maxLength) return { error: `Must have at most ${maxLength} characters; these are ${length}.` }
  return { value: text }
}

/** @param {string} text */
function parseJson(text) {
  try {
    return { value: JSON.parse(text) }
  } catch {
    return { error: "Must be JSON." }
  }
}

/** @param {Property} property @param {string} text */
function parseNumber(property, text) {
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN
  const whole = property.type === "integer"
  if (!Number.isFinite(value)) return { error: `Must be ${whole ? "a whole number" : "a number"}, not “${shortened(text)}”.` }
  if (whole && !Number.isInteger(value)) return { error: `Must be a whole number, not ${value}.` }
  const error = outOfBounds(property, value)
  return error ? { error } : { value }
}

/** @param {Property} property @param {number} value */
function outOfBounds({ minimum, maximum, above, below, gap, multipleOf }, value) {
  if (minimum !== undefined && value < minimum) return `Must be at least ${minimum}.`
  if (maximum !== undefined && value > maximum) return `Must be at most ${maximum}.`
  if (above !== undefined && value <= above) return `Must be more than ${above}.`
  if (below !== undefined && value >= below) return `Must be less than ${below}.`
  if (gap && value > gap.exclusiveMinimum && value < gap.exclusiveMaximum) return `Must be ${gap.exclusiveMinimum}, or at least ${gap.exclusiveMaximum}.`
  if (multipleOf && Math.abs(value / multipleOf - Math.round(value / multipleOf)) > 1e-9) return `Must be a multiple of ${multipleOf}.`
  return null
}

/** @param {string} text */
function shortened(text) {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text
}

/**
 * Bounds and step of a slider; null where a slider would be of no use.
 * @param {Property} property
 */
export function slider({ type, minimum, maximum, above, below, multipleOf, choices }) {
  const low = minimum ?? above
  const high = maximum ?? below
  if (choices || !["integer", "number"].includes(type) || low === undefined || high === undefined) return null
  if (type === "integer") return high - low > 10_000 ? null : { min: low + (minimum === undefined ? 1 : 0), max: high, step: multipleOf ?? 1 }
  const step = multipleOf ?? roundStep((high - low) / 100)
  // From the first multiple of the step on, so that the values on the way are short ones.
  return { min: minimum === undefined ? low + step : Number((Math.ceil(minimum / step) * step).toFixed(6)), max: maximum ?? high - step, step }
}

/** 1, 2 or 5 times a power of ten, at most `step`. @param {number} step */
function roundStep(step) {
  const power = 10 ** Math.floor(Math.log10(step))
  return ([5, 2, 1].find((factor) => factor * power <= step * 1.0001) ?? 1) * power
}
