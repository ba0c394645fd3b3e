import { type ChartPoint, digits } from './result.ts'

const WIDTH = 760
const LABEL_WIDTH = 150
const VALUE_WIDTH = 60
const BAR_HEIGHT = 16
const ROW_HEIGHT = 22
const TOP = 56
const MAX_TICKS = 6
const OURS = 'express-sse-hub'
// Each is legible on white and on GitHub's dark background alike.
const TEXT = '#7d8590'
const LINE = '#7d859055'
const BAR = '#8b949e'
const OUR_BAR = '#2f81f7'

/** The charts of all groups, by file name. */
export function charts(points: readonly ChartPoint[]): ReadonlyMap<string, string> {
  const groups = [...new Set(points.map(({ group }) => group))]
  return new Map(groups.map((group) => [fileName(group), chart(group, points)]))
}

function fileName(group: string): string {
  return `chart-${group.replaceAll(' ', '-')}.svg`
}

/** Bars of the CPU time that a million deliveries cost each server, for one group, on a linear scale: the eye sees the ratio. */
function chart(group: string, points: readonly ChartPoint[]): string {
  const members = points.filter((point) => point.group === group).toSorted((a, b) => a.value.median - b.value.median)
  const highest = Math.max(...members.map(({ value }) => value.median))
  const step = tickStep(highest)
  const scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / highest
  const bottom = TOP + members.length * ROW_HEIGHT
  const height = bottom + 28
  const body: string[] = []
  for (let amount = 0; amount <= highest; amount += step) {
    const x = LABEL_WIDTH + amount * scale
    body.push(
      `<line x1="${x.toFixed(1)}" y1="${TOP - 4}" x2="${x.toFixed(1)}" y2="${bottom}" stroke="${LINE}"/>`,
      text(x, bottom + 16, digits(amount), { anchor: 'middle' }),
    )
  }
  for (const [row, { server, value }] of members.entries()) {
    const y = TOP + row * ROW_HEIGHT
    const isOurs = server === OURS
    const style = { weight: isOurs ? 600 : 400, fill: isOurs ? OUR_BAR : TEXT }
    const length = Math.max(value.median * scale, 1)
    body.push(
      text(LABEL_WIDTH - 8, y + 13, server, { anchor: 'end', ...style }),
      `<rect x="${LABEL_WIDTH}" y="${y}" width="${length.toFixed(1)}" height="${BAR_HEIGHT}" rx="2" fill="${isOurs ? OUR_BAR : BAR}"/>`,
      text(LABEL_WIDTH + length + 6, y + 13, digits(value.median), style),
    )
  }
  const title = `Server CPU seconds per million deliveries, ${group}`
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`
  const font = 'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13"'
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" aria-label="${title}" ${font}>
${text(0, 18, title, { weight: 600, size: 16 })}
${text(0, 38, `1,000 clients, events of 200 bytes, ${group} of the event loop; less is better`)}
${body.join('\n')}
</svg>
`
}

/** The smallest step of 1, 2 or 5 times a power of ten that needs no more than {@link MAX_TICKS} steps. */
function tickStep(highest: number): number {
  const power = 10 ** Math.floor(Math.log10(highest / MAX_TICKS))
  return power * ([1, 2, 5].find((factor) => highest / (factor * power) <= MAX_TICKS) ?? 10)
}

interface TextStyle {
  readonly anchor?: 'middle' | 'end'
  readonly weight?: number
  readonly size?: number
  readonly fill?: string
}

function text(x: number, y: number, content: string, { anchor, weight, size, fill = TEXT }: TextStyle = {}): string {
  const style = [anchor && `text-anchor="${anchor}"`, weight && `font-weight="${weight}"`, size && `font-size="${size}"`]
    .filter(Boolean)
    .join(' ')
  return `<text x="${x.toFixed(1)}" y="${y}" fill="${fill}"${style === '' ? '' : ` ${style}`}>${content}</text>`
}
