defmodule Koma.Dashboard.Chart do
  @moduledoc """
  A line chart as SVG: pure. Colours come from the style sheet (`.line-1`, `.line-2`), so that it is
  readable in light and dark.
  """

  require EEx

  @width 320
  @height 72

  @type point :: {age_ms :: non_neg_integer, value :: number | nil}
  @type line :: %{name: String.t(), points: [point]}

  EEx.function_from_file(
    :defp,
    :chart,
    Path.join(__DIR__, "chart.html.eex"),
    [:title, :lines, :top, :show],
    engine: Koma.Live.HTML,
    trim: true
  )

  @doc "A chart of lines over the last `span_ms`; `show` puts a value into words."
  @spec svg(String.t(), [line], span_ms :: pos_integer, (number -> String.t())) ::
          Koma.Live.HTML.safe()
  def svg(title, lines, span_ms, show) do
    top = lines |> Enum.flat_map(& &1.points) |> Enum.map(&elem(&1, 1)) |> top()

    lines =
      for {line, number} <- Enum.with_index(lines, 1) do
        Map.merge(line, %{
          number: number,
          path: path(line.points, span_ms, top),
          now: now(line.points, show)
        })
      end

    chart(title, lines, top, show)
  end

  @doc """
  The end of the scale: the least 1, 2 or 5 times a power of ten that no value exceeds.

      iex> Enum.map([[], [nil], [0, 0], [3, 7], [12.5], [0.03]], &Koma.Dashboard.Chart.top/1)
      [1, 1, 1, 10, 20, 0.05]
  """
  @spec top([number | nil]) :: number
  def top(values) do
    case values |> Enum.reject(&is_nil/1) |> Enum.max(fn -> 0 end) do
      0 -> 1
      +0.0 -> 1
      max -> nice(max, :math.pow(10, floor(:math.log10(max))))
    end
  end

  defp nice(max, power) do
    top = Enum.find([1, 2, 5, 10], 10, &(max <= &1 * power * (1 + 1.0e-9))) * power
    if top >= 1, do: round(top), else: Float.round(top, 6)
  end

  # A gap in the values is a gap in the line.
  defp path(points, span_ms, top) do
    points
    |> Enum.chunk_by(&(elem(&1, 1) == nil))
    |> Enum.reject(&match?([{_age, nil} | _], &1))
    |> Enum.map_join(" ", fn run -> "M" <> Enum.map_join(run, "L", &at(&1, span_ms, top)) end)
  end

  defp at({age_ms, value}, span_ms, top) do
    x = @width * (1 - min(age_ms / span_ms, 1))
    y = @height - 1 - (@height - 2) * value / top
    "#{decimal(x)} #{decimal(y)}"
  end

  defp now([], _show), do: "–"

  defp now(points, show) do
    case List.last(points) do
      {_age, nil} -> "–"
      {_age, value} -> show.(value)
    end
  end

  defp words(title, lines) do
    now = Enum.map_join(lines, ", ", &"#{&1.name} #{&1.now}")
    "#{title}, the last 15 minutes; now: #{now}"
  end

  defp decimal(x), do: :erlang.float_to_binary(x / 1, decimals: 1)
end
