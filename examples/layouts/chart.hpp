#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace layouts {

/// A chart of lines, as SVG.
struct chart {
    struct line {
        std::string name;
        std::size_t color = 0; ///< which of the page's colours
        std::vector<std::pair<double, double>> points;
        bool dashed = false;
    };

    std::string title;
    std::string x_label, y_label;
    std::vector<std::pair<double, std::string>> x_ticks; ///< empty: chosen
    bool logarithmic = false;                            ///< the y axis
    double x_end = 0, y_end = 0; ///< to where it goes at least; 0: as far as the lines
    std::vector<line> lines;

    std::string figure() const; ///< for a page that has the style
    std::string file() const;   ///< a whole SVG file, with its title and its legend

    static const char* const style; ///< for a page: how charts look, and its colours

private:
    std::string drawing() const;
};

/// Text as it stands in HTML.
std::string escaped(const std::string& text);

} // namespace layouts
