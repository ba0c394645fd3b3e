import { type ChartPoint, digits } from './result.ts'

const WIDTH = 760
const LABEL_WIDTH = 150
const VALUE_WIDTH = 60
const BAR_HEIGHT = 16
const ROW_HEIGHT = 22
const TOP = 56
const GROUP_HEAD = 34
const OURS = 'express-sse-hub'
// Each is legible on white and on GitHub's dark background alike.
const TEXT = '#7d8590'
const LINE = '#7d859055'
const BAR = '#8b949e'
const OUR_BAR = '#2f81f7'

/** Bars of what a million deliveries cost each server, on a logarithmic scale, grouped by the events per turn. */
export function chart(points: readonly ChartPoint[]): string {
  const groups = [...new Set(points.map(({ group }) => group))]
  const values = points.map(({ value }) => value.median)
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.log10(Math.max(...values))
  const plotWidth = WIDTH - LABEL_WIDTH - VALUE_WIDTH
  const xOf = (value: number): number => LABEL_WIDTH + ((Math.log10(value) - low) / (high - low)) * plotWidth
  const body: string[] = []
  let y = TOP
  for (const group of groups) {
    body.push(text(0, y + 18, group, { weight: 600 }))
    y += GROUP_HEAD - 8
    const members = points.filter((point) => point.group === group).toSorted((a, b) => a.value.median - b.value.median)
    for (const { server, value } of members) {
      const isOurs = server === OURS
      const end = xOf(value.median)
      body.push(
        text(LABEL_WIDTH - 8, y + 13, server, { anchor: 'end', weight: isOurs ? 600 : 400, fill: isOurs ? OUR_BAR : TEXT }),
        `<rect x="${LABEL_WIDTH}" y="${y}" width="${Math.max(end - LABEL_WIDTH, 1).toFixed(1)}" height="${BAR_HEIGHT}" rx="2" fill="${isOurs ? OUR_BAR : BAR}"/>`,
        text(end + 6, y + 13, digits(value.median), { weight: isOurs ? 600 : 400, fill: isOurs ? OUR_BAR : TEXT }),
      )
      y += ROW_HEIGHT
    }
    y += GROUP_HEAD - ROW_HEIGHT
  }
  const ticks: string[] = []
  for (let power = low; power <= high; power++) {
    const x = xOf(10 ** power).toFixed(1)
    ticks.push(
      `<line x1="${x}" y1="${TOP}" x2="${x}" y2="${y}" stroke="${LINE}"/>`,
      text(Number(x), y + 16, digits(10 ** power), { anchor: 'middle' }),
    )
  }
  const height = y + 28
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="CPU seconds per million deliveries" font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13">
${text(0, 18, 'Server CPU seconds per million deliveries', { weight: 600, size: 16 })}
${text(0, 40, '1,000 clients, events of 200 bytes, by the events published in a turn of the event loop; less is better, logarithmic scale')}
${[...ticks, ...body].join('\n')}
</svg>
`
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
